from typing import TypedDict

class Device(TypedDict):
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory: int

class SystemInfo(TypedDict):
    runtime: int
    driver: int
    devices: list[Device]
    error: str

def system_info() -> SystemInfo: ...

#include "cusolver.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "shared_library.hpp"

namespace gramian::cuda {

namespace {

// The part of cuSOLVER's 64-bit interface in use (the same in versions 11 and 12), restated because
// its headers are no part of the compiler's packages.
using Handle = void*;
using Parameters = void*;
using SolverStatus = int;  // 0: success
enum Triangle : int { lower = 0, upper = 1 };

struct Library {
  SolverStatus (*create)(Handle*);
  SolverStatus (*set_stream)(Handle, cudaStream_t);
  SolverStatus (*create_parameters)(Parameters*);
  SolverStatus (*buffer_size)(Handle, Parameters, Triangle, std::int64_t n, cudaDataType,
                              const void* a, std::int64_t lda, cudaDataType compute,
                              std::size_t* on_device, std::size_t* on_host);
  SolverStatus (*factorize)(Handle, Parameters, Triangle, std::int64_t n, cudaDataType, void* a,
                            std::int64_t lda, cudaDataType compute, void* on_device, std::size_t,
                            void* on_host, std::size_t, int* info);
  Parameters parameters;
};

void check_solver(SolverStatus status, const char* what) {
  if (status == 0) return;
  cudaGetLastError();
  throw Error(std::string(what) + " failed with status " + std::to_string(status));
}

Library load() {
  const SharedLibrary library(
      {"libcusolver.so.12", "libcusolver.so.11"},
      {"libcublasLt.so.13", "libcublasLt.so.12", "libcublas.so.13", "libcublas.so.12",
       "libnvJitLink.so.13", "libnvJitLink.so.12", "libcusparse.so.12"},
      "nvidia-cusolver");
  Library l{};
  library.resolve(l.create, "cusolverDnCreate");
  library.resolve(l.set_stream, "cusolverDnSetStream");
  library.resolve(l.create_parameters, "cusolverDnCreateParams");
  library.resolve(l.buffer_size, "cusolverDnXpotrf_bufferSize");
  library.resolve(l.factorize, "cusolverDnXpotrf");
  check_solver(l.create_parameters(&l.parameters), "cusolverDnCreateParams");
  return l;
}

/// Never destroyed, as handles cannot be once CUDA is gone.
struct State {
  std::mutex mutex;
  const Library* library = nullptr;
  std::map<int, std::vector<Handle>> idle;  // handles that nobody uses, by device
};

State& state() {
  static State* const it = new State;
  return *it;
}

const Library& library() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.library) s.library = new Library(load());
  return *s.library;
}

Handle take_handle(const Library& l, int device) {
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    auto& idle = s.idle[device];
    if (!idle.empty()) {
      const Handle handle = idle.back();
      idle.pop_back();
      return handle;
    }
  }
  Handle handle = nullptr;
  check_solver(l.create(&handle), "cusolverDnCreate");
  return handle;
}

void give_handle(int device, Handle handle) noexcept {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  try {
    s.idle[device].push_back(handle);
  } catch (const std::bad_alloc&) {
    // The handle is lost, which costs less than the process.
  }
}

}  // namespace

Cusolver::Cusolver(const Queue& queue) : queue_(queue), handle_(nullptr) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  handle_ = take_handle(l, queue_.device);
  try {
    check_solver(l.set_stream(handle_, queue.stream), "cusolverDnSetStream");
  } catch (...) {
    give_handle(queue_.device, handle_);
    throw;
  }
}

Cusolver::Sizes Cusolver::sizes(cudaDataType type, index_t m, const void* a, index_t ld) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  Sizes s{};
  check_solver(
      l.buffer_size(handle_, l.parameters, upper, m, type, a, ld, type, &s.device, &s.host),
      "cusolverDnXpotrf_bufferSize");
  return s;
}

Cusolver::~Cusolver() { give_handle(queue_.device, handle_); }

// Column by column our lower triangle is the upper one of the conjugate: A* = U^H U, L = U^T.

std::size_t Cusolver::cholesky_bytes(cudaDataType type, index_t m, index_t ld) {
  return sizes(type, m, nullptr, ld).device;
}

bool Cusolver::cholesky(cudaDataType type, index_t m, void* a, index_t ld, void* workspace,
                        std::size_t bytes, int* info) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  const Sizes needed = sizes(type, m, a, ld);
  if (needed.device > bytes) throw Error("cuSOLVER needs more memory than it said");
  std::vector<char> host(needed.host);
  check_solver(l.factorize(handle_, l.parameters, upper, m, type, a, ld, type, workspace,
                           needed.device, host.data(), needed.host, info),
               "cusolverDnXpotrf");
  int found = -1;
  check(cudaMemcpyAsync(&found, info, sizeof found, cudaMemcpyDeviceToHost, queue_.stream),
        "reading cuSOLVER's verdict");
  check(cudaStreamSynchronize(queue_.stream), "a Cholesky factorization");
  return found == 0;
}

bool has_cusolver() {
  static const bool found = [] {
    try {
      library();
      return true;
    } catch (const Error&) {
      return false;
    }
  }();
  return found;
}

}  // namespace gramian::cuda

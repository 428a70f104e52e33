// The one road from Python arrays to the C++ library: a DLPack capsule, versioned or not, becomes
// an Array that keeps the exporter's memory alive. The structures restate the ABI of DLPack
// (versions 0.8 and 1.x, https://dmlc.github.io/dlpack/latest/c_api.html).
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "gramian/array_ref.hpp"

namespace gramian::python {

namespace py = pybind11;

namespace dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };
enum TypeCode : std::uint8_t {
  signed_int,
  unsigned_int,
  floating,
  opaque,
  bfloat,
  complex,
  boolean
};

struct Device {
  std::int32_t type;
  std::int32_t id;
};
struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // null: row-major without gaps (unversioned exporters only)
  std::uint64_t byte_offset;
};
struct Managed {
  Tensor tensor;
  void* manager;
  void (*deleter)(Managed*);
};
struct ManagedVersioned {
  std::uint32_t major;
  std::uint32_t minor;
  void* manager;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};
inline constexpr std::uint64_t flag_read_only = 1;

}  // namespace dlpack

/// Where a module's arrays must lie: its DLPack device types, and for a GPU which one.
struct Place {
  dlpack::DeviceType types[2];
  std::int32_t id;  // negative: any
  const char* name;
};
inline constexpr Place host = {{dlpack::cpu, dlpack::cuda_host}, -1, "the CPU (1)"};
constexpr Place gpu(std::int32_t id) {
  return {{dlpack::cuda, dlpack::cuda_managed}, id, "CUDA devices (2)"};
}

/// A consumed capsule.
class Array {
 public:
  Array() = default;
  Array(Array&& o) noexcept
      : plain_(std::exchange(o.plain_, nullptr)),
        versioned_(std::exchange(o.versioned_, nullptr)) {}
  Array& operator=(Array&& o) noexcept {
    std::swap(plain_, o.plain_);
    std::swap(versioned_, o.versioned_);
    return *this;
  }
  ~Array() {
    if (plain_ && plain_->deleter) plain_->deleter(plain_);
    if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
  }

  /// Takes the capsule over; false if it is none of DLPack's or was consumed before.
  bool consume(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
      auto* managed = static_cast<dlpack::ManagedVersioned*>(
          PyCapsule_GetPointer(capsule, "dltensor_versioned"));
      // A later major version may lay the rest of the structure out differently.
      if (managed->major != 1)
        throw py::buffer_error("DLPack major version " + std::to_string(managed->major) +
                               " is not supported; 1 is");
      PyCapsule_SetName(capsule, "used_dltensor_versioned");
      versioned_ = managed;
      return true;
    }
    if (PyCapsule_IsValid(capsule, "dltensor")) {
      plain_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule, "dltensor"));
      PyCapsule_SetName(capsule, "used_dltensor");
      return true;
    }
    return false;
  }

  const dlpack::Tensor& tensor() const { return versioned_ ? versioned_->tensor : plain_->tensor; }
  bool read_only() const { return versioned_ && (versioned_->flags & dlpack::flag_read_only); }

  /// The array as elements of `dtype`, which Python has already told from the array's own type
  /// (NumPy exports bfloat16 as 16-bit integers, for want of a type of its own).
  ArrayRef ref(const char* name, DType dtype, bool writable, const Place& place = host) const;

  /// The first `bytes` of an array of bytes without gaps, aligned as device memory is.
  std::byte* scratch(const char* name, std::size_t bytes, const Place& place) const;

 private:
  void check_place(const char* name, const Place& place) const;

  dlpack::Managed* plain_ = nullptr;
  dlpack::ManagedVersioned* versioned_ = nullptr;
};

/// "float32" and so on; ValueError for anything else.
DType dtype_from_name(const std::string& name);

}  // namespace gramian::python

namespace pybind11::detail {

template <>
struct type_caster<gramian::python::Array> {
  PYBIND11_TYPE_CASTER(gramian::python::Array, const_name("types.CapsuleType"));
  bool load(handle source, bool) { return value.consume(source.ptr()); }
};

}  // namespace pybind11::detail

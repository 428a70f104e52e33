#include "dlpack.hpp"

#include <algorithm>

namespace gramian::python {

namespace {

// What cudaMalloc guarantees, and so every allocator on top of it; kernels count on it.
constexpr std::uintptr_t device_alignment = 256;

bool same_type(dlpack::DataType t, DType dtype) {
  if (t.lanes != 1 || t.bits != 8 * element_size(dtype)) return false;
  switch (t.code) {
    case dlpack::floating:
      return dtype == DType::float16 || dtype == DType::float32 || dtype == DType::float64;
    case dlpack::complex:
      return dtype == DType::complex64 || dtype == DType::complex128;
    case dlpack::bfloat:
    case dlpack::unsigned_int:
      return dtype == DType::bfloat16;
    default:
      return false;
  }
}

[[noreturn]] void refuse(const char* name, const std::string& why) {
  throw py::buffer_error(std::string(name) + ": " + why);
}

}  // namespace

DType dtype_from_name(const std::string& name) {
  if (name == "float16") return DType::float16;
  if (name == "bfloat16") return DType::bfloat16;
  if (name == "float32") return DType::float32;
  if (name == "float64") return DType::float64;
  if (name == "complex64") return DType::complex64;
  if (name == "complex128") return DType::complex128;
  throw py::value_error("unknown dtype " + name);
}

void Array::check_place(const char* name, const Place& place) const {
  const dlpack::Device& device = tensor().device;
  if (device.type != place.types[0] && device.type != place.types[1])
    refuse(name, "lies on DLPack device type " + std::to_string(device.type) +
                     "; this module computes on " + place.name);
  if (place.id >= 0 && device.id != place.id)
    refuse(name, "lies on device " + std::to_string(device.id) + ", and the call computes on " +
                     std::to_string(place.id));
}

std::byte* Array::scratch(const char* name, std::size_t bytes, const Place& place) const {
  check_place(name, place);
  const dlpack::Tensor& t = tensor();
  const bool flat = t.ndim == 1 && t.shape && (!t.strides || t.strides[0] == 1);
  if (!flat || t.dtype.code != dlpack::unsigned_int || t.dtype.bits != 8 || t.dtype.lanes != 1 ||
      !t.data || t.shape[0] < 0 || static_cast<std::uint64_t>(t.shape[0]) < bytes || read_only())
    refuse(name, "must be " + std::to_string(bytes) + " writable bytes without gaps");
  std::byte* data = static_cast<std::byte*>(t.data) + t.byte_offset;
  if (reinterpret_cast<std::uintptr_t>(data) % device_alignment != 0)
    refuse(name, "must be aligned to " + std::to_string(device_alignment) + " bytes");
  return data;
}

ArrayRef Array::ref(const char* name, DType dtype, bool writable, const Place& place) const {
  check_place(name, place);
  const dlpack::Tensor& t = tensor();
  if (!same_type(t.dtype, dtype)) refuse(name, "its capsule has another element type");
  if (writable && read_only()) refuse(name, "is read-only");
  if (t.ndim < 0 || (t.ndim > 0 && !t.shape)) refuse(name, "its capsule has no shape");

  // All byte offsets must fit: a malformed capsule ends here, not in a wild read.
  ArrayRef out;
  out.dtype = dtype;
  const std::int64_t item = element_size(dtype);
  const auto ndim = static_cast<std::size_t>(t.ndim);
  out.shape.assign(t.shape, t.shape + t.ndim);
  out.strides.resize(ndim);
  std::int64_t count = 1;
  bool empty = false;
  for (std::size_t d = ndim; d-- > 0;) {
    if (out.shape[d] < 0) refuse(name, "its capsule has a negative dimension");
    out.strides[d] = t.strides ? t.strides[d] : count;
    if (out.shape[d] == 0) empty = true;
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(1, out.shape[d]), &count))
      refuse(name, "its capsule's size overflows");
  }
  std::int64_t reach = 0;
  for (std::size_t d = 0; d < ndim && !empty; ++d) {
    std::int64_t span = 0;
    if (__builtin_mul_overflow(out.shape[d] - 1, out.strides[d], &span) ||
        span == std::numeric_limits<std::int64_t>::min() ||
        __builtin_add_overflow(reach, span < 0 ? -span : span, &reach))
      refuse(name, "its capsule's strides overflow");
  }
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(reach, item, &bytes)) refuse(name, "its capsule's strides overflow");
  if (!empty && !t.data) refuse(name, "its capsule has no data");
  out.data = static_cast<char*>(t.data) + t.byte_offset;
  return out;
}

}  // namespace gramian::python

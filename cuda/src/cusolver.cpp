#include "cusolver.hpp"

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "library_handles.hpp"
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
};

/// What one thread at a time uses.
struct Session {
  Handle handle = nullptr;
  Parameters parameters = nullptr;
};

void check_solver(SolverStatus status, const char* what) {
  if (status == 0) return;
  cudaGetLastError();
  throw SolverError(std::string(what) + " failed with status " + std::to_string(status));
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
  return l;
}

const Library& library() {
  static auto* const loaded = new LoadedOnce<Library>;
  return (*loaded)(load);
}

HandlePool<Session>& pool() {
  static auto* const it = new HandlePool<Session>;
  return *it;
}

Session make_session(const Library& l) {
  const RelaxedCapture relaxed;
  Session session;
  check_solver(l.create(&session.handle), "cusolverDnCreate");
  check_solver(l.create_parameters(&session.parameters), "cusolverDnCreateParams");
  return session;
}

}  // namespace

Cusolver::Cusolver(const Queue& queue) : queue_(queue) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  const Session session = pool().take(queue_.device, [&] { return make_session(l); });
  handle_ = session.handle;
  parameters_ = session.parameters;
  try {
    check_solver(l.set_stream(handle_, queue.stream), "cusolverDnSetStream");
  } catch (...) {
    pool().give(queue_.device, session);
    throw;
  }
}

Cusolver::Sizes Cusolver::sizes(cudaDataType type, index_t m, const void* a, index_t ld) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  Sizes s{};
  check_solver(l.buffer_size(handle_, parameters_, upper, m, type, a, ld, type, &s.device, &s.host),
               "cusolverDnXpotrf_bufferSize");
  return s;
}

Cusolver::~Cusolver() { pool().give(queue_.device, {handle_, parameters_}); }

// Column by column our lower triangle is the upper one of the conjugate: A* = U^H U, L = U^T.

std::size_t Cusolver::cholesky_bytes(cudaDataType type, index_t m, index_t ld) {
  return sizes(type, m, nullptr, ld).device;
}

bool Cusolver::cholesky(cudaDataType type, index_t m, void* a, index_t ld, void* workspace,
                        std::size_t bytes, int* info) {
  const DeviceGuard guard(queue_.device);
  const Library& l = library();
  const Sizes needed = sizes(type, m, a, ld);
  if (needed.device > bytes) throw SolverError("cuSOLVER needs more memory than it said");
  std::vector<char> host(needed.host);
  check_solver(l.factorize(handle_, parameters_, upper, m, type, a, ld, type, workspace,
                           needed.device, host.data(), needed.host, info),
               "cusolverDnXpotrf");
  int found = -1;
  check(cudaMemcpyAsync(&found, info, sizeof found, cudaMemcpyDeviceToHost, queue_.stream),
        "reading cuSOLVER's verdict");
  check(cudaStreamSynchronize(queue_.stream), "a Cholesky factorization");
  return found == 0;
}

bool has_cusolver(const Queue& queue) {
  static std::mutex mutex;
  static std::set<int> known;
  const std::lock_guard lock(mutex);
  if (known.contains(queue.device)) return true;
  try {
    const Cusolver trial(queue);
  } catch (const Error&) {
    return false;
  }
  known.insert(queue.device);
  return true;
}

}  // namespace gramian::cuda

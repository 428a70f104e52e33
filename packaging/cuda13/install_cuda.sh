#!/usr/bin/env bash
# The parts of the CUDA toolkit that the build needs, in a manylinux_2_28 (AlmaLinux 8) image.
set -euo pipefail
case "$(uname -m)" in
  x86_64) arch=x86_64 ;;
  aarch64) arch=sbsa ;;
  *) echo "there is no CUDA toolkit for $(uname -m)" >&2 && exit 1 ;;
esac
dnf config-manager --add-repo \
  "https://developer.download.nvidia.com/compute/cuda/repos/rhel8/$arch/cuda-rhel8.repo"
dnf install -y cuda-nvcc-13-0 cuda-cudart-devel-13-0 libcublas-devel-13-0 libcusolver-devel-13-0 \
  libcusparse-devel-13-0 cuda-driver-devel-13-0

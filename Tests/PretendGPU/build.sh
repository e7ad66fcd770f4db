#!/usr/bin/env bash
# Builds the pretend GPU, a libtorch_cuda.so, and its collectives, a libCTorchCUDA.so, into a folder of
# their own, unless they are up to date.
# Usage: Tests/PretendGPU/build.sh [FOLDER]   (default .build/pretend-gpu)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../.. && pwd)
torch=${LIBTORCH:-$root/.deps/torch}
out=${1:-$root/.build/pretend-gpu}
library=$out/libtorch_cuda.so

mkdir -p "$out"
exec 9>"$out/lock" && flock 9 # two test runs build it once
stamp=$(cat build.sh ./*.h ./*.cpp collectives/*.cpp "$root/Sources/CTorch/device_collectives.h" \
  "$torch/include/torch/headeronly/version.h" | sha256sum)
if [ -f "$library" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

objects=()
jobs=()
for source in *.cpp collectives/*.cpp; do
  object=$out/$(basename "${source%.cpp}").o
  case $source in collectives/*) ;; *) objects+=("$object") ;; esac
  clang++ -O1 -fPIC -std=c++17 -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
    -c "$source" -o "$object" &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
clang++ -shared -fuse-ld=lld -o "$library.new" "${objects[@]}" -L"$torch/lib" -ltorch_cpu -lc10 \
  -Wl,-rpath,"$torch/lib" -Wl,--allow-shlib-undefined -Wl,-soname,libtorch_cuda.so
mv "$library.new" "$library"
clang++ -shared -fuse-ld=lld -o "$out/libCTorchCUDA.so.new" "$out/collectives.o" -L"$out" -ltorch_cuda \
  -L"$torch/lib" -ltorch_cpu -lc10 -Wl,-rpath,"$torch/lib" -Wl,--allow-shlib-undefined -Wl,-z,defs \
  -Wl,-soname,libCTorchCUDA.so
mv "$out/libCTorchCUDA.so.new" "$out/libCTorchCUDA.so"
echo "$stamp" >"$out/stamp"

#!/usr/bin/env bash
# Builds the pretend GPU, a libtorch_cuda.so, into a folder of its own, unless it is up to date.
# Usage: Tests/PretendGPU/build.sh [FOLDER]   (default .build/pretend-gpu)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../.. && pwd)
torch=${LIBTORCH:-$root/.deps/torch}
out=${1:-$root/.build/pretend-gpu}
library=$out/libtorch_cuda.so

mkdir -p "$out"
exec 9>"$out/lock" && flock 9 # two test runs build it once
stamp=$(cat build.sh ./*.h ./*.cpp "$torch/include/torch/headeronly/version.h" | sha256sum)
if [ -f "$library" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

objects=()
jobs=()
for source in *.cpp; do
  object=$out/${source%.cpp}.o
  objects+=("$object")
  clang++ -O1 -fPIC -std=c++17 -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
    -c "$source" -o "$object" &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
clang++ -shared -fuse-ld=lld -o "$library.new" "${objects[@]}" -L"$torch/lib" -ltorch_cpu -lc10 \
  -Wl,-rpath,"$torch/lib" -Wl,--allow-shlib-undefined -Wl,-soname,libtorch_cuda.so
mv "$library.new" "$library"
echo "$stamp" >"$out/stamp"

// The functions of NVIDIA's driver that the program asks about GPUs. PRETEND_GPU_CAPABILITY and PRETEND_GPU_DRIVER say
// what they answer. They are not a libcuda.so.1, because CUDA's compiler would load it and call others.

#include <cstdio>
#include <cstdlib>

namespace {

int setting(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

bool exists(int device) { return device >= 0 && device < setting("PRETEND_GPU_COUNT", 1); }

} // namespace

extern "C" {

int cuInit(unsigned) { return 0; }

int cuDriverGetVersion(int *version) {
  *version = setting("PRETEND_GPU_DRIVER", 13000);
  return 0;
}

int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal;
  return exists(ordinal) ? 0 : 101;
}

int cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, static_cast<size_t>(length), "Pretend GPU");
  return exists(device) ? 0 : 101;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  const char *capability = getenv("PRETEND_GPU_CAPABILITY");
  int major = 9, minor = 0;
  if (capability) sscanf(capability, "%d.%d", &major, &minor);
  *value = attribute == 75 ? major : attribute == 76 ? minor : attribute == 16 ? 1 : 0;
  return exists(device) ? 0 : 101;
}
}

// Random number generators.

#include "boundary.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

using namespace ctorch;

extern "C" {

ct_status ct_generator_new(ct_device target, uint64_t seed, ct_generator **out) {
  return boundary("generator", [&] {
    at::Generator generator = target.kind == CT_CPU
                                  ? at::make_generator<at::CPUGeneratorImpl>(seed)
                                  : at::globalContext().getAcceleratorHooksInterface(at::kCUDA).getNewGenerator(
                                        static_cast<c10::DeviceIndex>(target.index));
    generator.set_current_seed(seed);
    *out = new ct_generator{std::move(generator)};
  });
}

void ct_generator_free(ct_generator *generator) { delete generator; }

void ct_generator_set_seed(ct_generator *generator, uint64_t seed) {
  std::lock_guard<std::mutex> lock(generator->value.mutex());
  generator->value.set_current_seed(seed);
}

ct_status ct_generator_get_state(const ct_generator *generator, ct_tensor **out) {
  return boundary("get_state", [&] {
    at::Generator shared = generator->value;
    std::lock_guard<std::mutex> lock(shared.mutex());
    *out = own(shared.get_state());
  });
}

ct_status ct_generator_set_state(ct_generator *generator, const ct_tensor *state) {
  return boundary("set_state", [&] {
    std::lock_guard<std::mutex> lock(generator->value.mutex());
    generator->value.set_state(state->value);
  });
}

ct_status ct_random(ct_distribution distribution, const int64_t *shape, size_t rank, ct_dtype dtype,
                    ct_generator *generator, ct_tensor **out) {
  return boundary(distribution == CT_NORMAL ? "randn" : "rand", [&] {
    const auto options = at::TensorOptions().dtype(scalarType(dtype)).device(generator->value.device());
    *out = own(distribution == CT_NORMAL ? at::randn(sizes(shape, rank), generator->value, options)
                                         : at::rand(sizes(shape, rank), generator->value, options));
  });
}

ct_status ct_random_permutation(int64_t count, ct_generator *generator, ct_tensor **out) {
  return boundary("randperm", [&] { *out = own(at::randperm(count, generator->value, at::TensorOptions(at::kLong))); });
}
}

// Attention whose result is computed without a graph, and put into a graph later.

#include "boundary.h"

#include <ATen/ATen.h>
#include <ATen/SDPBackend.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

using namespace ctorch;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// What a kernel's backward pass needs besides the queries, keys and values.
struct ct_kept_attention {
  at::SDPBackend kernel;
  at::Tensor output, logSumExp;
  /// Of the kernels on GPUs: the random state of dropout, which is not used, and the offsets and
  /// largest lengths of sequences.
  at::Tensor seed, offset, queryOffsets, keyOffsets;
  c10::SymInt queries = 0, keys = 0;
};

namespace {

using Kept = std::unique_ptr<ct_kept_attention>;

/// Runs the kernel that `scaled_dot_product_attention` would choose, or returns null if that kernel
/// keeps whole score matrices or needs other inputs than these.
Kept attend(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v) {
  Kept kept = std::make_unique<ct_kept_attention>();
  kept->kernel = static_cast<at::SDPBackend>(at::_fused_sdp_choice(q, k, v));
  // On GPUs, heads of other widths are padded.
  if (!q.is_cpu() && (q.size(-1) % 8 != 0 || v.size(-1) % 8 != 0))
    return nullptr;
  switch (kept->kernel) {
  case at::SDPBackend::flash_attention:
    if (q.is_cpu())
      std::tie(kept->output, kept->logSumExp) = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v);
    else
      std::tie(kept->output, kept->logSumExp, kept->queryOffsets, kept->keyOffsets, kept->queries, kept->keys, kept->seed, kept->offset,
               std::ignore) = at::_scaled_dot_product_flash_attention(q, k, v);
    return kept;
  case at::SDPBackend::efficient_attention:
    std::tie(kept->output, kept->logSumExp, kept->seed, kept->offset) =
        at::_scaled_dot_product_efficient_attention(q, k, v, /*attn_bias=*/{}, /*compute_log_sumexp=*/true);
    return kept;
  case at::SDPBackend::cudnn_attention:
    std::tie(kept->output, kept->logSumExp, kept->queryOffsets, kept->keyOffsets, kept->queries, kept->keys, kept->seed, kept->offset,
             std::ignore) = at::_scaled_dot_product_cudnn_attention(q, k, v, /*attn_bias=*/{}, /*compute_log_sumexp=*/true);
    return kept;
  default:
    return nullptr;
  }
}

struct KeptAttention : torch::autograd::Function<KeptAttention> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
                            const ct_kept_attention *kept) {
    context->save_for_backward(
        {q, k, v, kept->output, kept->logSumExp, kept->seed, kept->offset, kept->queryOffsets, kept->keyOffsets});
    context->saved_data["kernel"] = static_cast<int64_t>(kept->kernel);
    context->saved_data["queries"] = kept->queries;
    context->saved_data["keys"] = kept->keys;
    return kept->output.detach();
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &dy = gradients[0], &q = saved[0], &k = saved[1], &v = saved[2], &output = saved[3], &logSumExp = saved[4],
                     &seed = saved[5], &offset = saved[6], &queryOffsets = saved[7], &keyOffsets = saved[8];
    const c10::SymInt queries = context->saved_data["queries"].toSymInt(), keys = context->saved_data["keys"].toSymInt();
    at::Tensor dq, dk, dv;
    switch (static_cast<at::SDPBackend>(context->saved_data["kernel"].toInt())) {
    case at::SDPBackend::efficient_attention:
      std::tie(dq, dk, dv, std::ignore) = at::_scaled_dot_product_efficient_attention_backward(
          dy, q, k, v, /*attn_bias=*/{}, output, logSumExp, seed, offset, /*dropout_p=*/0, {true, true, true, false});
      break;
    case at::SDPBackend::cudnn_attention:
      std::tie(dq, dk, dv) = at::_scaled_dot_product_cudnn_attention_backward_symint(
          dy, q, k, v, output, logSumExp, seed, offset, /*attn_bias=*/{}, queryOffsets, keyOffsets, queries, keys, /*dropout_p=*/0,
          /*is_causal=*/false);
      break;
    default:
      std::tie(dq, dk, dv) =
          q.is_cpu() ? at::_scaled_dot_product_flash_attention_for_cpu_backward(dy, q, k, v, output, logSumExp, /*dropout_p=*/0,
                                                                                /*is_causal=*/false)
                     : at::_scaled_dot_product_flash_attention_backward_symint(dy, q, k, v, output, logSumExp, queryOffsets, keyOffsets,
                                                                               queries, keys, /*dropout_p=*/0, /*is_causal=*/false, seed,
                                                                               offset);
    }
    return {dq, dk, dv, at::Tensor()};
  }
};

/// The tensor as attention computes with it: autocast to a narrower dtype applies to attention.
at::Tensor operand(const ct_tensor *tensor) {
  const at::Tensor &value = tensor->value;
  const auto device = value.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), value, device)
                                                   : value;
}

/// Autocast is over once the operands are cast.
c10::impl::ExcludeDispatchKeyGuard withoutAutocast() {
  return c10::impl::ExcludeDispatchKeyGuard(c10::autocast_dispatch_keyset);
}

} // namespace

extern "C" {

ct_status ct_attention_keep(const ct_tensor *query, const ct_tensor *key, const ct_tensor *value, ct_tensor **out,
                            ct_kept_attention **kept) {
  return boundary("attention", [&] {
    const at::Tensor q = operand(query), k = operand(key), v = operand(value);
    const auto guard = withoutAutocast();
    at::NoGradGuard noGrad;
    Kept result = attend(q, k, v);
    *out = own(result ? result->output : at::scaled_dot_product_attention(q, k, v));
    *kept = result.release();
  });
}

ct_status ct_attention_reuse(const ct_kept_attention *kept, const ct_tensor *query, const ct_tensor *key, const ct_tensor *value,
                             ct_tensor **out) {
  return boundary("attention", [&] {
    const at::Tensor q = operand(query), k = operand(key), v = operand(value);
    const auto guard = withoutAutocast();
    TORCH_CHECK(q.size(-2) == kept->output.size(-2) && q.scalar_type() == kept->output.scalar_type(),
                "attention: the queries differ from those whose result was kept");
    *out = own(KeptAttention::apply(q, k, v, kept));
  });
}

void ct_kept_attention_free(ct_kept_attention *kept) { delete kept; }
}

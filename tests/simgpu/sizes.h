// The bytes that a tensor takes in the memory of each kind of GPU, and which attention CUDA has kernels for.
//
// Source: llama.cpp 0c1e5709: ggml-cuda/ggml-cuda.cu (ggml_backend_cuda_buffer_type_get_alloc_size) and
// ggml-cuda/fattn.cu for a card with Ada's tensor cores; ggml-metal/ggml-metal.cpp and ggml-metal-ops.cpp
// (ggml_metal_op_flash_attn_ext_extra_{pad,blk,tmp,kv_f16}), without what mixtures of experts and sparse
// attention take. Vulkan takes what ggml counts.
#pragma once

#include "ggml-backend-impl.h"
#include "ggml-impl.h"

#include <algorithm>

inline bool value_is_view_of_key(const ggml_tensor * K, const ggml_tensor * V) {
    return V->view_src && (V->view_src == K || (V->view_src == K->view_src && V->view_offs == K->view_offs));
}

// Whether the heads that share a key are computed together. Source: ggml_cuda_get_best_fattn_kernel.
inline bool cuda_groups_heads(const ggml_tensor * op) {
    const ggml_tensor * Q = op->src[0], * K = op->src[1], * mask = op->src[3];
    float max_bias;
    memcpy(&max_bias, (const float *) op->op_params + 1, sizeof max_bias);
    if (Q->ne[2] / K->ne[2] < 2 || !mask || max_bias != 0.0f || K->ne[1] % 256 != 0) return false;
    for (int s = 0; s < 4; s++) {
        if (ggml_is_quantized(op->src[s]->type)) continue;
        for (int i = 1; i < GGML_MAX_DIMS; i++) {
            if (op->src[s]->nb[i] % 16 != 0) return false;
        }
    }
    return true;
}

inline bool cuda_attends_to(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0 ||
           type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_0 || type == GGML_TYPE_Q5_1;
}

// Whether there is a kernel of flash attention; without one the CPU computes it. Source: idem.
inline bool cuda_has_attention(const ggml_tensor * op) {
    const ggml_tensor * K = op->src[1], * V = op->src[2], * mask = op->src[3];
    if (!cuda_attends_to(K->type) || !cuda_attends_to(V->type) || (mask && mask->ne[2] != 1)) return false;
    const int64_t k = K->ne[0], v = V->ne[0], group = op->src[0]->ne[2] / K->ne[2];
    switch (k) {
        case 40: case 64: case 72: case 80: case 96: case 112: case 128: case 256: return v == k;
        case 192: return v == 128 && group % 8 == 0 && cuda_groups_heads(op);
        case 320: return v == 256 && group % 32 == 0 && cuda_groups_heads(op);
        case 512: case 576: return v == 512 && cuda_groups_heads(op);
        default: return false;
    }
}

// Whether the kernel for one or two tokens is used, which reads K and V as they are cached; only for the
// pairs of types that GGML_CUDA_FA_QUANTS compiles by default. Source: idem, ggml_cuda_get_fattn_vec_case.
inline bool cuda_attends_in_place(const ggml_tensor * op) {
    const ggml_tensor * Q = op->src[0], * K = op->src[1], * V = op->src[2];
    const ggml_type type = K->type;
    if (type != V->type || (type != GGML_TYPE_Q4_0 && type != GGML_TYPE_Q8_0 && type != GGML_TYPE_BF16)) return false;
    if (Q->ne[0] > 256 || Q->ne[0] % 64 != 0 || Q->ne[0] == 192 || K->ne[1] % 256 != 0) return false;
    if (ggml_is_quantized(type)) return Q->ne[1] <= 2;
    const bool crowded = Q->ne[2] / K->ne[2] > 4 && (Q->ne[0] >= 256 || K->ne[1] >= 8192);
    return Q->ne[1] == 1 && ((Q->ne[3] == 1 && !crowded) || !cuda_groups_heads(op));
}

// The other kernels want K and V in half precision, and put the copies behind the result.
inline size_t cuda_attention_size(const ggml_tensor * op) {
    const ggml_tensor * K = op->src[1], * V = op->src[2];
    size_t size = ggml_nbytes(op);
    if (!cuda_has_attention(op) || cuda_attends_in_place(op)) return size;
    if (K->type != GGML_TYPE_F16) size = GGML_PAD(size, 128) + 2 * ggml_nelements(K);
    if (V->type != GGML_TYPE_F16 && !value_is_view_of_key(K, V)) size = GGML_PAD(size, 128) + 2 * ggml_nelements(V);
    return size;
}

// Rows of quantized tensors are padded to MATRIX_ROW_PADDING, which is 512 elements.
inline size_t cuda_size(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    const bool attention = tensor->op == GGML_OP_FLASH_ATTN_EXT;
    const int64_t over = tensor->ne[0] % 512;
    const size_t size = attention ? cuda_attention_size(tensor) : ggml_nbytes(tensor);
    return ggml_is_quantized(tensor->type) && over != 0 ? size + ggml_row_size(tensor->type, 512 - over) : size;
}

inline size_t metal_size(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    size_t size = ggml_nbytes(tensor);
    if (tensor->op != GGML_OP_FLASH_ATTN_EXT) return size;
    const ggml_tensor * Q = tensor->src[0], * K = tensor->src[1], * V = tensor->src[2], * mask = tensor->src[3];
    const bool view = value_is_view_of_key(K, V), vector = Q->ne[1] < 20 && Q->ne[0] % 32 == 0;
    const bool halves = Q->ne[1] >= 32 && ggml_is_quantized(K->type);  // K and V are turned into f16 first
    // The last columns of the cache, filled up to a block.
    size += 64 * (halves ? 2 * K->ne[0] : K->nb[1]) * K->ne[2] * K->ne[3];
    size += 64 * (halves ? 2 * (view ? K : V)->ne[0] : V->nb[1]) * V->ne[2] * V->ne[3];
    if (mask) {
        const int64_t rows = vector ? 1 : 8, columns = vector ? 32 : 64;
        const int64_t blocks = (mask->ne[0] + columns - 1) / columns * ((Q->ne[1] + rows - 1) / rows);
        size += 64 * 2 * mask->ne[1] * mask->ne[2] * mask->ne[3];
        size += GGML_PAD(blocks * mask->ne[2] * mask->ne[3], 32);
    }
    // What 32 groups of threads have found for each row.
    size += 4 * std::min<int64_t>(Q->ne[1], 32) * Q->ne[2] * Q->ne[3] * 32 * (V->ne[0] + 2);
    // K and V in half precision, reserved whether that is needed or not.
    return size + GGML_PAD(2 * ggml_nelements(K), 16) + (view ? 0 : GGML_PAD(2 * ggml_nelements(V), 16));
}

// The gradient of queries on tensor cores (Dao 2023, FlashAttention-2, algorithm 2). A workgroup has ROWS of the rows
// that share a kv head, a warp 16 of them, and goes over the keys by KEYS, as attention_flash.cu does. Factors of a
// product are sums of PIECES 16-bit numbers, as there.
{% include "mma.cuh" %}
{% include "tiles.cuh" %}
{% include "products.cuh" %}
{% include "sequences.cuh" %}
{% include "elements.cuh" %}

typedef Half<{{ q.dtype == "bf16" }}> H;
constexpr uint D = {{ d }}, DV = {{ dv_columns }};
constexpr uint THREADS = {{ workgroup_size }};
constexpr uint ROWS = THREADS / 2;
constexpr uint KEYS = {{ staged }};
constexpr uint PIECES = {{ pieces }};
constexpr uint K_BYTES = KEYS * pitch(D), STAGE = K_BYTES + KEYS * pitch(DV);
constexpr float LOG2E = 1.44269504f;

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}, 2) {{ entry }}({{ arguments }}) {
    {{ operands }}
    extern __shared__ uint4 memory_[];
    __shared__ Range keys_[ROWS];
    const uint lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    if (group >= params.groups) return;
    const uint kv_head = group % params.kv_heads;
    // Late rows may see more keys: they start first.
    const uint first_row = (params.tiles - 1 - group / params.kv_heads) * ROWS;
    const Heads heads(params, kv_head);
    const uint q_ = shared_address(memory_), grad_ = q_ + ROWS * pitch(D), staged_ = grad_ + ROWS * pitch(DV);
    const ushort *keys = k + (unsigned long long)kv_head * params.k_s1;
    const ushort *values = v + (unsigned long long)kv_head * params.v_s1;

    stage_heads<ROWS, D, THREADS, {{ q_aligned }}>(q_, q, params.q_s0, params.q_s1, params.q_s2, heads, first_row);
    stage_heads<ROWS, DV, THREADS, {{ grad_aligned }}>(grad_, grad, params.grad_s0, params.grad_s1, params.grad_s2, heads, first_row);
    if (threadIdx.x < ROWS) {
        const Place at = heads.place(first_row + threadIdx.x);
        keys_[threadIdx.x] = at.there ? keys_of(params, seqs, at.token) : Range{0, 0};
    }
    __syncthreads();
    uint last = 0;
    for (uint r = lane; r < ROWS; r += 32) {
        if (keys_[r].first < keys_[r].end) last = max(last, keys_[r].end);
    }
    last = __reduce_max_sync(0xffffffffu, last);

    Range seen[2];
    float lse[2], delta[2];
    for (uint h = 0; h < 2; h++) {
        const uint r = 16 * warp + 8 * h + lane / 4;
        const Place at = heads.place(first_row + r);
        const float *of = row + (at.there ? at.token * params.row_s0 + at.head * params.row_s1 : 0);
        seen[h] = keys_[r];
        lse[h] = of[0];
        delta[h] = of[1];
    }
    float sum[D / 8][4];
#pragma unroll
    for (uint c = 0; c < D / 8; c++) {
        for (uint i = 0; i < 4; i++) sum[c][i] = 0.0f;
    }

    uint j = next_key<ROWS>(keys_, 0), at = staged_;
    if (j != NONE) {
        stage<KEYS, D, THREADS, {{ k_aligned }}>(at, keys, params.k_s0, params.k_s2, j, last);
        stage<KEYS, DV, THREADS, {{ v_aligned }}>(at + K_BYTES, values, params.v_s0, params.v_s2, j, last);
    }
    copies_end();
    while (j != NONE) {
        const uint next = next_key<ROWS>(keys_, j + KEYS);
        const uint after = staged_ + (at == staged_ ? STAGE : 0);
        if (next != NONE) {
            stage<KEYS, D, THREADS, {{ k_aligned }}>(after, keys, params.k_s0, params.k_s2, next, last);
            stage<KEYS, DV, THREADS, {{ v_aligned }}>(after + K_BYTES, values, params.v_s0, params.v_s2, next, last);
        }
        copies_end();
        copies_wait<1>();
        __syncthreads();

        float s[KEYS / 8][4], dp[KEYS / 8][4];
        products<H, D, KEYS>(s, q_, 16 * warp, at);
        products<H, DV, KEYS>(dp, grad_, 16 * warp, at + K_BYTES);
#pragma unroll
        for (uint n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (uint i = 0; i < 4; i++) {
                const uint h = i / 2, key = j + 8 * n + 2 * (lane % 4) + i % 2;
                const bool there = key >= seen[h].first && key < seen[h].end;
                const float p = exp2_((s[n][i] * params.scale - lse[h]) * LOG2E);
                s[n][i] = there ? p * (dp[n][i] - delta[h]) * params.scale : 0.0f;
            }
        }
        gather<H, D, KEYS, PIECES>(sum, s, at);
        __syncthreads();
        at = after;
        j = next;
    }

#pragma unroll
    for (uint h = 0; h < 2; h++) {
        const Place at = heads.place(first_row + 16 * warp + 8 * h + lane / 4);
        if (!at.there) continue;
        auto *to = dq + at.token * params.dq_s0 + at.head * params.dq_s1;
#pragma unroll
        for (uint c = 0; c < D / 8; c++) {
            write<{{ dq.dtype == "bf16" }}, {{ dq.wide }}>(to + (8 * c + 2 * (lane % 4)) * params.dq_s2, params.dq_s2, true, sum[c][2 * h], sum[c][2 * h + 1]);
        }
    }
}

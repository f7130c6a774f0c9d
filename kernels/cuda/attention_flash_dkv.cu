// The gradients of keys and values on tensor cores (Dao 2023, FlashAttention-2, algorithm 2). A workgroup has KEYS key
// rows of one kv head, a warp 16 of them. It goes over the sequences that have any of them, and in each over the
// query rows of its heads (those of a token, then those of the next) by ROWS, the next ones being copied meanwhile.
// Factors of a product are sums of PIECES 16-bit numbers, as in attention_flash.cu.
{% include "mma.cuh" %}
{% include "tiles.cuh" %}
{% include "products.cuh" %}
{% include "sequences.cuh" %}
{% include "elements.cuh" %}

typedef Half<{{ q.dtype == "bf16" }}> H;
constexpr uint D = {{ d }}, DV = {{ dv_columns }};
constexpr uint THREADS = {{ workgroup_size }};
constexpr uint KEYS = THREADS / 2;
constexpr uint ROWS = {{ staged }};
constexpr uint PIECES = {{ pieces }};
constexpr uint Q_BYTES = ROWS * pitch(D), STAGE = Q_BYTES + ROWS * pitch(DV);
constexpr float LOG2E = 1.44269504f;

// What is known of a query row.
struct Row {
    Range seen;
    float lse, delta;
};

// Goes over the tiles of query rows that may see any of the keys from `first` on.
struct Tiles {
    // The sequence, where its rows begin, and the tile's first row and the sequence's last.
    const int *s;
    uint n = 0, row = 0, end = 0;

    __device__ void next(const Params &params, const int *seqs, uint first) {
        row += ROWS;
        while (row >= end && n < params.seqs) {
            s = seqs + (unsigned long long)n * params.seqs_s0;
            n++;
            const Range tokens = seen_by(params, s, first, KEYS);
            row = tokens.first * params.share;
            end = tokens.end * params.share;
        }
    }
    __device__ bool there() const { return row < end; }
};

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}, 2) {{ entry }}({{ arguments }}) {
    {{ operands }}
    extern __shared__ uint4 memory_[];
    __shared__ Row rows_[2][ROWS];
    const uint lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    if (group >= params.groups) return;
    const uint kv_head = group % params.kv_heads;
    const uint first = group / params.kv_heads * KEYS;
    const Heads heads(params, kv_head);
    const uint k_ = shared_address(memory_), v_ = k_ + KEYS * pitch(D), staged_ = v_ + KEYS * pitch(DV);

    const auto bring = [&](const Tiles &tile, uint which) {
        const uint to = staged_ + which * STAGE;
        stage_heads<ROWS, D, THREADS, {{ q_aligned }}>(to, q, params.q_s0, params.q_s1, params.q_s2, heads, tile.row, tile.end);
        stage_heads<ROWS, DV, THREADS, {{ grad_aligned }}>(to + Q_BYTES, grad, params.grad_s0, params.grad_s1, params.grad_s2, heads, tile.row, tile.end);
        if (threadIdx.x < ROWS) {
            const Place at = heads.place(tile.row + threadIdx.x);
            Row known = {};
            if (at.there && tile.row + threadIdx.x < tile.end) {
                const float *of = row + at.token * params.row_s0 + at.head * params.row_s1;
                known.seen = visible(params, tile.s, (int)at.token - max(tile.s[0], 0));
                known.lse = of[0];
                known.delta = of[1];
            }
            rows_[which][threadIdx.x] = known;
        }
    };

    float dk_sum[D / 8][4], dv_sum[DV / 8][4];
#pragma unroll
    for (uint i = 0; i < 4; i++) {
#pragma unroll
        for (uint c = 0; c < D / 8; c++) dk_sum[c][i] = 0.0f;
#pragma unroll
        for (uint c = 0; c < DV / 8; c++) dv_sum[c][i] = 0.0f;
    }
    stage<KEYS, D, THREADS, {{ k_aligned }}>(k_, k + (unsigned long long)kv_head * params.k_s1, params.k_s0, params.k_s2, first, params.kv);
    stage<KEYS, DV, THREADS, {{ v_aligned }}>(v_, v + (unsigned long long)kv_head * params.v_s1, params.v_s0, params.v_s2, first, params.kv);
    Tiles tile;
    tile.next(params, seqs, first);
    if (tile.there()) bring(tile, 0);
    copies_end();
    uint which = 0;
    while (tile.there()) {
        tile.next(params, seqs, first);
        if (tile.there()) bring(tile, 1 - which);
        copies_end();
        copies_wait<1>();
        __syncthreads();

        const uint at = staged_ + which * STAGE;
        float p[ROWS / 8][4], ds[ROWS / 8][4];
        products<H, D, ROWS>(p, k_, 16 * warp, at);
        products<H, DV, ROWS>(ds, v_, 16 * warp, at + Q_BYTES);
#pragma unroll
        for (uint n = 0; n < ROWS / 8; n++) {
#pragma unroll
            for (uint i = 0; i < 4; i++) {
                const Row r = rows_[which][8 * n + 2 * (lane % 4) + i % 2];
                const uint key = first + 16 * warp + 8 * (i / 2) + lane / 4;
                const bool there = key >= r.seen.first && key < r.seen.end;
                p[n][i] = there ? exp2_((p[n][i] * params.scale - r.lse) * LOG2E) : 0.0f;
                ds[n][i] = p[n][i] * (ds[n][i] - r.delta) * params.scale;
            }
        }
        gather<H, DV, ROWS, PIECES>(dv_sum, p, at + Q_BYTES);
        gather<H, D, ROWS, PIECES>(dk_sum, ds, at);
        __syncthreads();
        which = 1 - which;
    }

#pragma unroll
    for (uint h = 0; h < 2; h++) {
        const uint key = first + 16 * warp + 8 * h + lane / 4;
        if (key >= params.kv) continue;
        auto *to_k = dk + key * params.dk_s0 + kv_head * params.dk_s1;
        auto *to_v = dv + key * params.dv_s0 + kv_head * params.dv_s1;
#pragma unroll
        for (uint c = 0; c < D / 8; c++) {
            write<{{ dk.dtype == "bf16" }}, {{ dk.wide }}>(to_k + (8 * c + 2 * (lane % 4)) * params.dk_s2, params.dk_s2, true, dk_sum[c][2 * h], dk_sum[c][2 * h + 1]);
        }
#pragma unroll
        for (uint c = 0; c < DV / 8; c++) {
            write<{{ dv.dtype == "bf16" }}, {{ dv.wide }}>(to_v + (8 * c + 2 * (lane % 4)) * params.dv_s2, params.dv_s2, true, dv_sum[c][2 * h], dv_sum[c][2 * h + 1]);
        }
    }
}

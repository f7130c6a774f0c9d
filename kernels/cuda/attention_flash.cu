// Attention by tiles on tensor cores (Dao 2023, FlashAttention-2, algorithm 1). A workgroup has ROWS of the rows that
// share a kv head: its heads of a token, filled up to `params.pitch`, then those of the next. It goes over the keys by
// KEYS, the next ones being copied meanwhile. Warps have rows of their own, or (ACROSS of them) the same rows and keys
// of their own, joined in the end; or (BESIDE of them) the same rows and columns of v of their own, and each the
// scores for itself. LATENT: v is the first columns of k, which is staged once. Scores are in base 2. A probability is
// the sum of PIECES 16-bit numbers: one alone would be further off than the sum of the products may be.
{% include "mma.cuh" %}
{% include "tiles.cuh" %}
{% include "sequences.cuh" %}
{% include "elements.cuh" %}

typedef Half<{{ q.dtype == "bf16" }}> H;
constexpr uint D = {{ d }}, DV = {{ dv }};
constexpr uint THREADS = {{ workgroup_size }};
constexpr uint BLOCKS = {{ blocks }}; // Of 16 rows, of a warp.
constexpr uint ACROSS = {{ across }};
constexpr uint BESIDE = {{ beside }};
constexpr bool LATENT = {{ latent }};
constexpr uint ROWS = 16 * BLOCKS * (THREADS / 32 / ACROSS / BESIDE);
constexpr uint KEYS = {{ keys }};
constexpr uint OWN = KEYS / ACROSS; // A warp's.
constexpr uint PIECES = {{ pieces }};
constexpr uint OWN_V = DV / BESIDE; // Columns of v of a warp.
// Of a staged row of v; where v begins in a stage; a stage.
constexpr uint V_WIDTH = LATENT ? D : DV, V_AT = LATENT ? 0 : KEYS * pitch(D), STAGE = V_AT + KEYS * pitch(V_WIDTH);
constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}, {{ resident }}) {{ entry }}({{ arguments }}) {
    {{ operands }}
    extern __shared__ uint4 memory_[];
    __shared__ Range keys_[ROWS];
    const uint lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    if (group >= params.groups) return;
    const uint kv_head = group % params.kv_heads;
    const uint rest = group / params.kv_heads;
{% if split %}
    const uint part = rest % params.splits;
    const uint tile = rest / params.splits;
{% else %}
    // Late rows may see more keys: they start first.
    const uint tile = params.tiles - 1 - rest;
{% endif %}
    const uint first_row = tile * ROWS;
    const Heads heads(params, kv_head);
    const uint q_ = shared_address(memory_), staged_ = q_ + ROWS * pitch(D);
    const ushort *keys = k + (unsigned long long)kv_head * params.k_s1;
    const ushort *values = v + (unsigned long long)kv_head * params.v_s1;

    stage_heads<ROWS, D, THREADS, {{ q_aligned }}>(q_, q, params.q_s0, params.q_s1, params.q_s2, heads, first_row);
    if (threadIdx.x < ROWS) {
        const Place at = heads.place(first_row + threadIdx.x);
        Range seen = {0, 0};
        if (at.there) {
            seen = keys_of(params, seqs, at.token);
{% if split %}
            seen.first = min(seen.first + part * params.length, seen.end);
            seen.end = min(seen.first + params.length, seen.end);
{% endif %}
        }
        keys_[threadIdx.x] = seen;
    }
    __syncthreads();
    // All rows see the keys from here to there; none sees any from `last` on.
    uint from = 0, to = NONE, last = 0;
    for (uint r = lane; r < ROWS; r += 32) {
        const Range seen = keys_[r];
        from = max(from, seen.first);
        to = min(to, seen.end);
        if (seen.first < seen.end) last = max(last, seen.end);
    }
    from = __reduce_max_sync(0xffffffffu, from);
    to = __reduce_min_sync(0xffffffffu, to);
    last = __reduce_max_sync(0xffffffffu, last);

    // Of the warp: its first row in the tile, and its first of the staged keys.
    const uint row = warp / ACROSS / BESIDE * 16 * BLOCKS, own = warp % ACROSS * OWN;
    const uint column = warp / ACROSS % BESIDE * OWN_V;
    float sum[BLOCKS][OWN_V / 8][4];
    float top[BLOCKS][2], total[BLOCKS][2];
#pragma unroll
    for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
        for (uint c = 0; c < OWN_V / 8; c++) {
            for (uint i = 0; i < 4; i++) sum[b][c][i] = 0.0f;
        }
        for (uint h = 0; h < 2; h++) {
            top[b][h] = LOWEST;
            total[b][h] = 0.0f;
        }
    }
    const float scale = params.scale * LOG2E;

    uint j = next_key<ROWS>(keys_, 0), at = staged_;
    if (j != NONE) {
        stage<KEYS, D, THREADS, {{ k_aligned }}>(at, keys, params.k_s0, params.k_s2, j, last);
        if (!LATENT) stage<KEYS, DV, THREADS, {{ v_aligned }}>(at + V_AT, values, params.v_s0, params.v_s2, j, last);
    }
    copies_end();
    while (j != NONE) {
        const uint next = next_key<ROWS>(keys_, j + KEYS);
        const uint after = staged_ + (at == staged_ ? STAGE : 0);
        if (next != NONE) {
            stage<KEYS, D, THREADS, {{ k_aligned }}>(after, keys, params.k_s0, params.k_s2, next, last);
            if (!LATENT) stage<KEYS, DV, THREADS, {{ v_aligned }}>(after + V_AT, values, params.v_s0, params.v_s2, next, last);
        }
        copies_end();
        copies_wait<1>();
        __syncthreads();

        float s[BLOCKS][OWN / 8][4];
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
            for (uint n = 0; n < OWN / 8; n++) {
                for (uint i = 0; i < 4; i++) s[b][n][i] = 0.0f;
            }
        }
#pragma unroll
        for (uint c = 0; c < D; c += 16) {
            uint x[BLOCKS][4];
#pragma unroll
            for (uint b = 0; b < BLOCKS; b++) load_matrices(x[b], block_down(q_, D, row + 16 * b, c));
#pragma unroll
            for (uint n = 0; n < OWN / 16; n++) {
                uint y[4];
                load_matrices(y, block_across(at, D, own + 16 * n, c));
#pragma unroll
                for (uint b = 0; b < BLOCKS; b++) {
                    H::mma(s[b][2 * n], x[b], y[0], y[1]);
                    H::mma(s[b][2 * n + 1], x[b], y[2], y[3]);
                }
            }
        }

        const bool whole = j >= from && j + KEYS <= to;
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
            for (uint h = 0; h < 2; h++) {
#pragma unroll
                for (uint n = 0; n < OWN / 8; n++) {
                    for (uint i = 0; i < 2; i++) s[b][n][2 * h + i] *= scale;
                }
                if (!whole) {
                    const Range seen = keys_[row + 16 * b + 8 * h + lane / 4];
#pragma unroll
                    for (uint n = 0; n < OWN / 8; n++) {
#pragma unroll
                        for (uint i = 0; i < 2; i++) {
                            const uint key = j + own + 8 * n + 2 * (lane % 4) + i;
                            if (key < seen.first || key >= seen.end) s[b][n][2 * h + i] = LOWEST;
                        }
                    }
                }
                float above = top[b][h];
#pragma unroll
                for (uint n = 0; n < OWN / 8; n++) above = fmaxf(above, fmaxf(s[b][n][2 * h], s[b][n][2 * h + 1]));
                above = quad_max(above);
                const float base = above == LOWEST ? 0.0f : above;
                const float decay = exp2_(top[b][h] - base);
                top[b][h] = above;
                float more = 0.0f;
#pragma unroll
                for (uint n = 0; n < OWN / 8; n++) {
#pragma unroll
                    for (uint i = 0; i < 2; i++) {
                        float &x = s[b][n][2 * h + i];
                        x = exp2_(x - base);
                        more += x;
                    }
                }
                total[b][h] = total[b][h] * decay + more;
#pragma unroll
                for (uint c = 0; c < OWN_V / 8; c++) {
                    sum[b][c][2 * h] *= decay;
                    sum[b][c][2 * h + 1] *= decay;
                }
            }
        }

#pragma unroll
        for (uint n = 0; n < OWN / 16; n++) {
            uint p[BLOCKS][PIECES][4];
#pragma unroll
            for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
                for (uint i = 0; i < 4; i++) {
                    float x0 = s[b][2 * n + i / 2][i % 2 * 2], x1 = s[b][2 * n + i / 2][i % 2 * 2 + 1];
#pragma unroll
                    for (uint w = 0; w < PIECES; w++) {
                        p[b][w][i] = H::pack(x0, x1);
                        x0 -= H::low(p[b][w][i]);
                        x1 -= H::high(p[b][w][i]);
                    }
                }
            }
#pragma unroll
            for (uint c = 0; c < OWN_V / 16; c++) {
                uint y[4];
                load_transposed(y, block_down(at + V_AT, V_WIDTH, own + 16 * n, column + 16 * c));
#pragma unroll
                for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
                    for (uint w = 0; w < PIECES; w++) {
                        H::mma(sum[b][2 * c], p[b][w], y[0], y[1]);
                        H::mma(sum[b][2 * c + 1], p[b][w], y[2], y[3]);
                    }
                }
            }
        }
        __syncthreads();
        at = after;
        j = next;
    }

#pragma unroll
    for (uint b = 0; b < BLOCKS; b++) {
        for (uint h = 0; h < 2; h++) total[b][h] = quad_sum(total[b][h]);
    }
{% if across > 1 %}
    // Each lane of the first warp of those with the same rows joins what is at its place in the others.
    constexpr uint EACH = BLOCKS * (OWN_V / 8 * 4 + 4);
    float *joined = (float *)(memory_ + ROWS * pitch(D) / 16);
    if (warp % ACROSS > 0) {
        float *there = joined + (warp - warp / ACROSS - 1) * EACH * 32 + lane;
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++) {
            for (uint h = 0; h < 2; h++, there += 64) {
                there[0] = top[b][h];
                there[32] = total[b][h];
            }
#pragma unroll
            for (uint c = 0; c < OWN_V / 8; c++) {
                for (uint i = 0; i < 4; i++, there += 32) there[0] = sum[b][c][i];
            }
        }
    }
    __syncthreads();
    if (warp % ACROSS > 0) return;
    for (uint w = 0; w < ACROSS - 1; w++) {
        const float *there = joined + (warp / ACROSS * (ACROSS - 1) + w) * EACH * 32 + lane;
#pragma unroll
        for (uint b = 0; b < BLOCKS; b++) {
            float ours[2], theirs[2];
            for (uint h = 0; h < 2; h++, there += 64) {
                const float above = fmaxf(top[b][h], there[0]);
                const float base = above == LOWEST ? 0.0f : above;
                ours[h] = exp2_(top[b][h] - base);
                theirs[h] = exp2_(there[0] - base);
                top[b][h] = above;
                total[b][h] = total[b][h] * ours[h] + there[32] * theirs[h];
            }
#pragma unroll
            for (uint c = 0; c < OWN_V / 8; c++) {
                for (uint i = 0; i < 4; i++, there += 32) {
                    sum[b][c][i] = sum[b][c][i] * ours[i / 2] + there[0] * theirs[i / 2];
                }
            }
        }
    }
{% endif %}

#pragma unroll
    for (uint b = 0; b < BLOCKS; b++) {
#pragma unroll
        for (uint h = 0; h < 2; h++) {
            const Place at = heads.place(first_row + row + 16 * b + 8 * h + lane / 4);
            if (!at.there) continue;
            const bool any = total[b][h] > 0.0f;
{% if split %}
            const float share = 1.0f;
            if (lane % 4 == 0 && column == 0) {
                float *end = stats + at.token * params.stats_s0 + at.head * params.stats_s1 + part * params.stats_s2;
                end[0] = any ? top[b][h] * LN2 : -3.0e38f;
                end[1] = total[b][h];
            }
            auto *to = o + at.token * params.o_s0 + at.head * params.o_s1 + part * params.o_s2;
            const uint step = params.o_s3;
{% else %}
            const float share = any ? 1.0f / total[b][h] : 0.0f;
            if (lane % 4 == 0 && column == 0) lse[at.token * params.lse_s0 + at.head * params.lse_s1] = any ? top[b][h] * LN2 + logf(total[b][h]) : 0.0f;
            auto *to = o + at.token * params.o_s0 + at.head * params.o_s1;
            const uint step = params.o_s2;
{% endif %}
#pragma unroll
            for (uint c = 0; c < OWN_V / 8; c++) {
                write<{{ o.dtype == "bf16" }}, {{ o.wide }}>(to + (column + 8 * c + 2 * (lane % 4)) * step, step, true, sum[b][c][2 * h] * share, sum[b][c][2 * h + 1] * share);
            }
        }
    }
}

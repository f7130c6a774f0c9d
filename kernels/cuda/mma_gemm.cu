// Products of 16-bit floats on tensor cores: a workgroup computes {{ tile_m }} × {{ tile_n }} elements of c, each of its
// {{ warps_m }} × {{ warps_n }} warps a part, from {{ stages }} stages of {{ tile_k }} of the sum in shared memory, which are
// copied while others are multiplied. With `gated` it computes the same elements of a product with another matrix, b1, and
// of the SwiGLU of both, which it makes of what it wrote, so that all are what three launches would write.
{% include "mma.cuh" %}
{% include "swizzle.cuh" %}
{% include "elements.cuh" %}
{% include "product.cuh" %}
{% set sides = ["", "1"] if gated else [""] %}

constexpr uint THREADS = {{ workgroup_size }};
constexpr uint STAGES = {{ stages }};
constexpr uint TK = {{ tile_k }};
// A warp's rows and columns.
constexpr uint WM = {{ tile_m // warps_m }}, WN = {{ tile_n // warps_n }};
// Rows and pieces of what is staged: along the sum in rows, or down the rows.
constexpr bool A_ACROSS = {{ a_by != "mn" }}, B_ACROSS = {{ b_by != "mn" }};
constexpr uint A_ROWS = {{ tile_k if a_by == "mn" else tile_m }}, A_PIECES = {{ (tile_m if a_by == "mn" else tile_k) // 8 }};
constexpr uint B_ROWS = {{ tile_k if b_by == "mn" else tile_n }}, B_PIECES = {{ (tile_n if b_by == "mn" else tile_k) // 8 }};
constexpr uint A_BYTES = 16 * A_ROWS * A_PIECES, B_BYTES = 16 * B_ROWS * B_PIECES;
constexpr uint SIDES = {{ sides | length }}, STAGE_BYTES = A_BYTES + SIDES * B_BYTES;
typedef Half<{{ a.dtype == "bf16" }}> Factor;
{% if gated %}

// What `swiglu.wgsl` computes, in the same steps.
__device__ __forceinline__ float swiglu(float gate, float up) {
    const float e = expf(-fabsf(gate));
    return gate * ((gate < 0.0f ? e : 1.0f) / (1.0f + e)) * up;
}
{% endif %}

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}, {{ blocks }}) {{ entry }}({{ arguments }}) {
    {{ operands }}
    extern __shared__ __align__(128) uchar arena[];
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    if (group >= params.groups) return;
    const Part p = part_of(params, {{ "0" if mode == "dense" else "offsets" }}, group);
    // The same for the whole workgroup, as barriers want it.
    if (p.row >= p.end) return;
{% if mode == "dense" %}
    a += (unsigned long long)p.z * params.a_s0;
{% endif %}
{% for s in sides %}
{% if mode != "weight" %}
    b{{ s }} += (unsigned long long)p.z * params.b{{ s }}_s0;
{% endif %}
{% if mode != "grouped" %}
    c{{ s }} += (unsigned long long)p.z * params.c{{ s }}_s0;
{% endif %}
{% endfor %}
{% if gated and mode != "grouped" %}
    inner += (unsigned long long)p.z * params.inner_s0;
{% endif %}

    const uint memory = shared_address(arena);
    const uint steps = (p.k1 - p.k0 + TK - 1) / TK;
{% for x, rows, first, end in [("a", "A", "p.row", "p.end"), ("b", "B", "p.column", "params.n"), ("b1", "B", "p.column", "params.n")] %}
{% if x != "b1" or gated %}
    Copier<{{ rows }}_ROWS, {{ rows }}_PIECES, THREADS, {{ a_aligned if x == "a" else b_aligned }}> {{ x }}_copier(
        {{ x }}, params.{{ x }}_s1, params.{{ x }}_s2,
        {% if (a_by if x == "a" else b_by) == "mn" %}p.k0, p.k1, {{ first }}, {{ end }}{% else %}{{ first }}, {{ end }}, p.k0, p.k1{% endif %});
{% endif %}
{% endfor %}
    // The stage after this one.
    const uint last = memory + (STAGES - 1) * STAGE_BYTES;
    auto next = [&](uint stage) { return stage == last ? memory : stage + STAGE_BYTES; };
    uint fetched = memory;
    auto fetch = [&]() {
        a_copier.copy(fetched);
{% for s in sides %}
        b{{ s }}_copier.copy(fetched + A_BYTES + {{ loop.index0 }} * B_BYTES);
{% endfor %}
        a_copier.advance(A_ACROSS ? 0 : TK, A_ACROSS ? TK : 0);
{% for s in sides %}
        b{{ s }}_copier.advance(B_ACROSS ? 0 : TK, B_ACROSS ? TK : 0);
{% endfor %}
        fetched = next(fetched);
    };

    const uint warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint m0 = warp / {{ warps_n }} * WM, n0 = warp % {{ warps_n }} * WN;
    float sums[SIDES][WM / 16][WN / 8][4] = {};
#pragma unroll
    for (uint t = 0; t < STAGES - 1; t++) {
        if (t < steps) fetch();
        copies_end();
    }
    for (uint t = 0, stage = memory; t < steps; t++, stage = next(stage)) {
        copies_wait<STAGES - 2>();
        // Stage t is there, and nobody reads the one before it any longer.
        __syncthreads();
        if (t + STAGES - 1 < steps) fetch();
        copies_end();
        const uint a_tile = stage;
#pragma unroll
        for (uint k = 0; k < TK; k += 16) {
            uint fa[WM / 16][4];
#pragma unroll
            for (uint i = 0; i < WM / 16; i++) {
                if (A_ACROSS) load_matrices(fa[i], block_down<A_PIECES>(a_tile, m0 + 16 * i, k / 8));
                else load_transposed(fa[i], block_across<A_PIECES>(a_tile, k, m0 / 8 + 2 * i));
            }
#pragma unroll
            for (uint s = 0; s < SIDES; s++) {
                const uint b_tile = stage + A_BYTES + s * B_BYTES;
                uint fb[WN / 16][4];
#pragma unroll
                for (uint j = 0; j < WN / 16; j++) {
                    if (B_ACROSS) load_matrices(fb[j], block_across<B_PIECES>(b_tile, n0 + 16 * j, k / 8));
                    else load_transposed(fb[j], block_down<B_PIECES>(b_tile, k, n0 / 8 + 2 * j));
                }
#pragma unroll
                for (uint i = 0; i < WM / 16; i++) {
#pragma unroll
                    for (uint j = 0; j < WN / 8; j++) {
                        Factor::mma(sums[s][i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
                    }
                }
            }
        }
    }

#pragma unroll
    for (uint i = 0; i < WM / 16; i++) {
#pragma unroll
        for (uint h = 0; h < 2; h++) {
            const uint row = p.row + m0 + 16 * i + 8 * h + lane / 4;
            if (row >= p.end) continue;
#pragma unroll
            for (uint j = 0; j < WN / 8; j++) {
                const uint column = p.column + n0 + 8 * j + lane % 4 * 2;
                if (column >= params.n) continue;
                const bool two = column + 1 < params.n;
{% for s in sides %}
{% set c_ = c1 if s else c %}
                float x{{ s }} = sums[{{ loop.index0 }}][i][j][2 * h], y{{ s }} = sums[{{ loop.index0 }}][i][j][2 * h + 1];
{% if (biased1 if s else biased) %}
{% set bias_ = bias1 if s else bias %}
                if (p.live) {
                    const uint at = {{ "p.z * params.bias" ~ s ~ "_s0 + " if mode == "grouped" }}column * params.bias{{ s }}_s1;
                    x{{ s }} += read<{{ bias_.dtype == "bf16" }}>(bias{{ s }}, at);
                    if (two) y{{ s }} += read<{{ bias_.dtype == "bf16" }}>(bias{{ s }}, at + params.bias{{ s }}_s1);
                }
{% endif %}
                const uint at{{ s }} = row * params.c{{ s }}_s1 + column * params.c{{ s }}_s2;
{% if accumulate %}
                x += read<{{ c_.dtype == "bf16" }}>(c, at);
                if (two) y += read<{{ c_.dtype == "bf16" }}>(c, at + params.c_s2);
{% endif %}
                write<{{ c_.dtype == "bf16" }}, {{ c1_pairs if s else c_pairs }}>(c{{ s }} + at{{ s }}, params.c{{ s }}_s2, two, x{{ s }}, y{{ s }});
{% endfor %}
{% if gated %}
                x = swiglu(as_written<{{ c.dtype == "bf16" }}>(c, x), as_written<{{ c1.dtype == "bf16" }}>(c1, x1));
                y = swiglu(as_written<{{ c.dtype == "bf16" }}>(c, y), as_written<{{ c1.dtype == "bf16" }}>(c1, y1));
                write<{{ inner.dtype == "bf16" }}, {{ inner_pairs }}>(
                    inner + row * params.inner_s1 + column * params.inner_s2, params.inner_s2, two, x, y);
{% endif %}
            }
        }
    }
}

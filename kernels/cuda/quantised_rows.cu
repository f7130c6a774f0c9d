// Few rows times quantised weights, as in decoding: c[z, i, j] (+)= Σ_k a[z, i, k]·b[z, j, k] + bias[z, j]. A warp computes
// {{ tm }} rows of {{ tn }} columns: its lanes go along the sum together, eight elements each at a time, so that they read
// neighbouring bytes of b, each of them once, and add up at the end. Weights become floats in registers: bytes of 0 to 255
// are put under the exponent of 2²³, from which 2²³ and their bias are taken away.
{% include "mma.cuh" %}
{% include "product.cuh" %}
{% include "elements.cuh" %}

constexpr uint TM = {{ tm }}, TN = {{ tn }};
// Elements and bytes of a block, and lanes that read one.
constexpr uint ELEMS = {{ elems }}, BYTES = {{ bytes }}, PARTS = ELEMS / 8;

// Bytes 0 to 3 of u less what `bias` is.
__device__ __forceinline__ void floats(float *v, uint u, float bias) {
    const float base = 8388608.0f + bias;
    v[0] = __uint_as_float(__byte_perm(u, 0x4b000000u, 0x7440)) - base;
    v[1] = __uint_as_float(__byte_perm(u, 0x4b000000u, 0x7441)) - base;
    v[2] = __uint_as_float(__byte_perm(u, 0x4b000000u, 0x7442)) - base;
    v[3] = __uint_as_float(__byte_perm(u, 0x4b000000u, 0x7443)) - base;
}

// A word at any even address, and at any.
__device__ __forceinline__ uint word_at_2(const uchar *at) {
    const ushort *h = (const ushort *)at;
    return h[0] | (uint)h[1] << 16;
}
__device__ __forceinline__ uint word_at_1(const uchar *at) {
    return at[0] | (uint)at[1] << 8 | (uint)at[2] << 16 | (uint)at[3] << 24;
}
__device__ __forceinline__ float half_at(const uchar *at) { return Half<false>::low(*(const ushort *)at); }

// Eight elements of part `part` of a block: v[0..4] · scale.x + least.x from element first(part) on, v[4..8] · scale.y +
// least.y from second(part) on. What the bytes mean is said by halite_hal::blocks.
__device__ __forceinline__ void decode(const uchar *block, uint part, float *v, float2 &scale, float2 &least) {
    least = make_float2(0.0f, 0.0f);
{% if weights == "q8_0" %}
    scale.x = scale.y = half_at(block);
    floats(v, word_at_2(block + 2 + 8 * part) ^ 0x80808080u, 128.0f);
    floats(v + 4, word_at_2(block + 6 + 8 * part) ^ 0x80808080u, 128.0f);
{% elif weights == "q4_k" %}
    // Scales and least values of groups of 32, six bits each: of two groups that share bytes.
    const uint group = part / 8 * 2, s = 8 * (group & 3);
    const uint *words = (const uint *)block;
    uint d = words[1] >> s, m = words[2] >> s;
    if (group >= 4) {
        const uint low = words[3] >> s;
        d = (low & 0x0f0fu) | (d >> 2 & 0x3030u);
        m = (low >> 4 & 0x0f0fu) | (m >> 2 & 0x3030u);
    }
    const float by = Half<false>::low(words[0] & 0xffffu), least_by = -Half<false>::low(words[0] >> 16);
    scale = make_float2(by * (float)(d & 63u), by * (float)(d >> 8 & 63u));
    least = make_float2(least_by * (float)(m & 63u), least_by * (float)(m >> 8 & 63u));
    const uint w = words[4 + part];
    floats(v, w & 0x0f0f0f0fu, 0.0f);
    floats(v + 4, w >> 4 & 0x0f0f0f0fu, 0.0f);
{% elif weights == "q4_0" %}
    scale.x = scale.y = half_at(block);
    const uint w = word_at_2(block + 2 + 4 * part);
    floats(v, w & 0x0f0f0f0fu, 8.0f);
    floats(v + 4, w >> 4 & 0x0f0f0f0fu, 8.0f);
{% elif weights == "q4_1" %}
    scale.x = scale.y = half_at(block);
    least.x = least.y = half_at(block + 2);
    const uint w = *(const uint *)(block + 4 + 4 * part);
    floats(v, w & 0x0f0f0f0fu, 0.0f);
    floats(v + 4, w >> 4 & 0x0f0f0f0fu, 0.0f);
{% else %}
    // Twice the magnitudes 0, ½, 1, 1½, 2, 3, 4, 6; a negative one is 128 less it.
    const uint p = block[0], w = word_at_1(block + 1 + 4 * part);
    scale.x = scale.y = __uint_as_float(p < 2 ? 0x200000u << (p & 1u) : (p - 1) << 23);
#pragma unroll
    for (uint i = 0; i < 2; i++) {
        const uint q = w >> 4 * i;
        const uint pairs = q & 0x07070707u;
        const uint m = __byte_perm(0x03020100u, 0x0c080604u, __byte_perm(pairs | pairs >> 4, 0, 0x4420));
        const uint negative = q >> 3 & 0x01010101u;
        floats(v + 4 * i, (m ^ negative * 255u ^ 0x80808080u) + negative, 128.0f);
    }
{% endif %}
}

// Where a part's first four elements begin, within its block, and how far the others are behind them.
__device__ __forceinline__ uint first(uint part) {
    return {{ "8 * part" if weights == "q8_0" else "part / 8 * 64 + part % 8 * 4" if weights == "q4_k" else "4 * part" }};
}
constexpr uint SECOND = {{ 4 if weights == "q8_0" else 32 if weights == "q4_k" else 16 }};

// Four elements of a.
__device__ __forceinline__ float4 four(const Params &params, const {{ a_type }} *a) {
{% if a.wide and a.dtype == "f32" %}
    return *(const float4 *)a;
{% elif a.wide %}
    const uint2 w = *(const uint2 *)a;
    typedef Half<{{ a.dtype == "bf16" }}> H;
    return make_float4(H::low(w.x), H::high(w.x), H::low(w.y), H::high(w.y));
{% else %}
    const uint s = params.a_s2;
    return make_float4(read<{{ a.dtype == "bf16" }}>(a, 0), read<{{ a.dtype == "bf16" }}>(a, s), read<{{ a.dtype == "bf16" }}>(a, 2 * s), read<{{ a.dtype == "bf16" }}>(a, 3 * s));
{% endif %}
}

__device__ __forceinline__ float dot(float4 x, const float *v) { return x.x * v[0] + x.y * v[1] + (x.z * v[2] + x.w * v[3]); }
__device__ __forceinline__ float sum(float4 x) { return x.x + x.y + (x.z + x.w); }

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}, {{ blocks }}) {{ entry }}({{ arguments }}) {
    {{ operands }}
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    if (group >= params.groups) return;
    const Part p = part_of(params, {{ "0" if mode == "dense" else "offsets" }}, group);
    const uint column = p.column + threadIdx.x / 32 * TN, lane = threadIdx.x % 32;
    if (p.row >= p.end || column >= params.n) return;
{% if mode == "dense" %}
    a += (unsigned long long)p.z * params.a_s0;
    c += (unsigned long long)p.z * params.c_s0;
{% endif %}
    b += (unsigned long long)p.z * params.b_s0 / ELEMS * BYTES;

    // A warp's elements of the sum at a time; a lane has the same part of every block.
    constexpr uint STEP = 32 * 8;
    const uint part = lane % PARTS, k0 = lane / PARTS * ELEMS;
    // Rows and columns beyond the last one repeat it.
    const {{ a_type }} *rows[TM];
    const uchar *columns[TN];
#pragma unroll
    for (uint i = 0; i < TM; i++) {
        const unsigned long long row = min(p.row + i, p.end - 1);
        rows[i] = a + row * params.a_s1 + (unsigned long long)(k0 + first(part)) * params.a_s2;
    }
#pragma unroll
    for (uint j = 0; j < TN; j++) {
        columns[j] = b + ((unsigned long long)min(column + j, params.n - 1) * params.b_s1 + k0) / ELEMS * BYTES;
    }
    float sums[TM][TN] = {};
    for (uint k = k0; k < p.k1; k += STEP) {
        float4 x[TM], y[TM];
#pragma unroll
        for (uint i = 0; i < TM; i++) {
            x[i] = four(params, rows[i]);
            y[i] = four(params, rows[i] + SECOND * params.a_s2);
            rows[i] += STEP * params.a_s2;
        }
#pragma unroll
        for (uint j = 0; j < TN; j++) {
            float v[8];
            float2 scale, least;
            decode(columns[j], part, v, scale, least);
            columns[j] += STEP / ELEMS * BYTES;
#pragma unroll
            for (uint i = 0; i < TM; i++) {
                sums[i][j] += scale.x * dot(x[i], v) + scale.y * dot(y[i], v + 4);
{% if weights in ("q4_1", "q4_k") %}
                sums[i][j] += least.x * sum(x[i]) + least.y * sum(y[i]);
{% endif %}
            }
        }
    }
#pragma unroll
    for (uint i = 0; i < TM; i++) {
#pragma unroll
        for (uint j = 0; j < TN; j++) {
#pragma unroll
            for (uint far = 16; far > 0; far /= 2) sums[i][j] += __shfl_xor_sync(0xffffffffu, sums[i][j], far);
        }
    }
    // Each lane writes an element, as far as there are any.
#pragma unroll
    for (uint i = 0; i < TM; i++) {
#pragma unroll
        for (uint j = 0; j < TN; j++) {
            const uint row = p.row + i, at_column = column + j;
            if (lane != (i * TN + j) % 32 || row >= p.end || at_column >= params.n) continue;
            float v = sums[i][j];
{% if biased %}
            if (p.live) v += read<{{ bias.dtype == "bf16" }}>(bias, {{ "p.z * params.bias_s0 + " if mode == "grouped" }}at_column * params.bias_s1);
{% endif %}
            const uint at = row * params.c_s1 + at_column * params.c_s2;
{% if accumulate %}
            v += read<{{ c.dtype == "bf16" }}>(c, at);
{% endif %}
            write<{{ c.dtype == "bf16" }}, false>(c + at, 0, false, v, 0.0f);
        }
    }
}

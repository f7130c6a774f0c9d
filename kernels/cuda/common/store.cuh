// How results of f32 are written, two columns at a time. WIDE: they lie together, at a multiple of their size.

template <bool WIDE, bool BF16> __device__ __forceinline__ void store_two(float *to, uint step, uint c, float x, float y) {
    if (WIDE) {
        *(float2 *)(to + c) = make_float2(x, y);
    } else {
        to[c * step] = x;
        to[(c + 1) * step] = y;
    }
}

template <bool WIDE, bool BF16> __device__ __forceinline__ void store_two(ushort *to, uint step, uint c, float x, float y) {
    const uint w = Half<BF16>::pack(x, y);
    if (WIDE) {
        *(uint *)(to + c) = w;
    } else {
        to[c * step] = (ushort)w;
        to[(c + 1) * step] = (ushort)(w >> 16);
    }
}

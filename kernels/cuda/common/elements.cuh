// How elements of f32, and of 16 bits as `Half` reads and writes them, are read and written one or two at a time.

template <bool BF16> __device__ __forceinline__ float read(const float *x, uint i) { return x[i]; }
template <bool BF16> __device__ __forceinline__ float read(const ushort *x, uint i) { return Half<BF16>::low(x[i]); }

// What is read again of a number that was written to memory of this type.
template <bool BF16> __device__ __forceinline__ float as_written(const float *, float x) { return x; }
template <bool BF16> __device__ __forceinline__ float as_written(const ushort *, float x) {
    return Half<BF16>::low(Half<BF16>::pack(x, x));
}

// Writes an element and, if there is one, the next; PAIRS: both at once.
template <bool BF16, bool PAIRS>
__device__ __forceinline__ void write(float *to, uint step, bool two, float x, float y) {
    if (PAIRS && two) {
        *(float2 *)to = make_float2(x, y);
    } else {
        to[0] = x;
        if (two) to[step] = y;
    }
}
template <bool BF16, bool PAIRS>
__device__ __forceinline__ void write(ushort *to, uint step, bool two, float x, float y) {
    const uint w = Half<BF16>::pack(x, y);
    if (PAIRS && two) {
        *(uint *)to = w;
    } else {
        to[0] = (ushort)w;
        if (two) to[step] = (ushort)(w >> 16);
    }
}

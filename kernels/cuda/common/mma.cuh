// Instructions of tensor cores and what brings data to them, for 16-bit floats and sums of f32 (PTX ISA, "mma.m16n8k16",
// "ldmatrix", "cp.async"). `{` stands apart from `%` in them, for the template. Of a fragment's lane: `lane / 4` is a row
// of A and of the sum (and the one 8 below), and a column of B; `2 * (lane % 4)` and the next are columns of the sum, and
// places along k (and those 8 further).

// A place in shared memory, as instructions name it.
__device__ __forceinline__ uint shared_address(const void *at) { return (uint)__cvta_generic_to_shared(at); }

// Starts a copy of up to 16 bytes to shared memory, and of zeros in place of the rest of 16.
__device__ __forceinline__ void copy_some(uint to, const void *from, uint bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Starts a copy of 16 bytes to shared memory; of zeros where there is nothing to copy.
__device__ __forceinline__ void copy_16(uint to, const void *from, bool there) { copy_some(to, from, there ? 16 : 0); }

// Writes 16 bytes to shared memory at once.
__device__ __forceinline__ void store_16(uint to, const uint (&w)[4]) {
    asm volatile("st.shared.v4.b32 [%0], { %1, %2, %3, %4};" ::"r"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's copies, save those of the last N groups.
template <int N> __device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four matrices of 8 by 8: lanes 8i to 8i + 7 say where the rows of the i-th are.
__device__ __forceinline__ void load_matrices(uint (&x)[4], uint at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 { %0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(at) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_transposed(uint (&x)[4], uint at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 { %0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(at) : "memory");
}

// Elements are bf16, or f16.
template <bool BF16> struct Half;

template <> struct Half<true> {
    // Two of them from f32, to nearest even; the first in the low bits.
    static __device__ __forceinline__ uint pack(float low, float high) {
        uint w;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
    }
    static __device__ __forceinline__ float low(uint w) { return __uint_as_float(w << 16); }
    static __device__ __forceinline__ float high(uint w) { return __uint_as_float(w & 0xffff0000u); }
    // c += a · b, of 16 by 16 and 16 by 8.
    static __device__ __forceinline__ void mma(float (&c)[4], const uint (&a)[4], uint b0, uint b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %0, %1, %2, %3}, { %4, %5, %6, %7}, { %8, %9}, "
            "{ %0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct Half<false> {
    static __device__ __forceinline__ uint pack(float low, float high) {
        uint w;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
    }
    static __device__ __forceinline__ float low(uint w) {
        float x;
        asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(x) : "r"(w));
        return x;
    }
    static __device__ __forceinline__ float high(uint w) { return low(w >> 16); }
    static __device__ __forceinline__ void mma(float (&c)[4], const uint (&a)[4], uint b0, uint b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 { %0, %1, %2, %3}, { %4, %5, %6, %7}, { %8, %9}, "
            "{ %0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

// Minus infinity. Its power is 0.
#define LOWEST __int_as_float(0xff800000)

// 2 to the x, to 2 ulps.
__device__ __forceinline__ float exp2_(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

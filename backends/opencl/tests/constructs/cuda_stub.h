// What NVRTC knows without being told, as declarations for a C++ compiler that only reads the source.
#define __device__
#define __global__
#define __shared__ static
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) __attribute__((aligned(n)))
struct dim3_ { unsigned x, y, z; };
extern const dim3_ threadIdx, blockIdx, blockDim, gridDim;
#define VECTORS(type, name, a2, a4) \
    struct __align__(a2) name##2 { type x, y; }; \
    struct __align__(a4) name##4 { type x, y, z, w; };
VECTORS(float, float, 8, 16)
VECTORS(int, int, 8, 16)
VECTORS(unsigned, uint, 8, 16)
#define UNARY(f) float f(float);
UNARY(cosf) UNARY(coshf) UNARY(sinf) UNARY(sinhf) UNARY(tanf) UNARY(tanhf) UNARY(acosf) UNARY(asinf)
UNARY(atanf) UNARY(asinhf) UNARY(acoshf) UNARY(atanhf) UNARY(ceilf) UNARY(floorf) UNARY(rintf) UNARY(truncf)
UNARY(expf) UNARY(exp2f) UNARY(logf) UNARY(log2f) UNARY(sqrtf) UNARY(rsqrtf) UNARY(fabsf)
float atan2f(float, float); float powf(float, float); float fmodf(float, float); float fminf(float, float);
float fmaxf(float, float); float fmaf(float, float, float); float ldexpf(float, int);
int min(int, int); unsigned min(unsigned, unsigned); float min(float, float);
int max(int, int); unsigned max(unsigned, unsigned); float max(float, float);
int __popc(unsigned); int __clz(int); unsigned __brev(unsigned);
int __dp4a(int, int, int); unsigned __dp4a(unsigned, unsigned, unsigned);
float __uint_as_float(unsigned); float __int_as_float(int);
unsigned __float_as_uint(float); int __float_as_int(float);
void __syncthreads(); void __syncwarp(); void __threadfence();
#define ATOMIC(f) int f(int *, int); unsigned f(unsigned *, unsigned);
ATOMIC(atomicAdd) ATOMIC(atomicSub) ATOMIC(atomicMin) ATOMIC(atomicMax) ATOMIC(atomicAnd) ATOMIC(atomicOr)
ATOMIC(atomicXor) ATOMIC(atomicExch)
int atomicCAS(int *, int, int); unsigned atomicCAS(unsigned *, unsigned, unsigned);
template <class T> T __shfl_sync(unsigned, T, int);
template <class T> T __shfl_up_sync(unsigned, T, unsigned);
template <class T> T __shfl_down_sync(unsigned, T, unsigned);
template <class T> T __shfl_xor_sync(unsigned, T, int);
int __all_sync(unsigned, int); int __any_sync(unsigned, int); unsigned __ballot_sync(unsigned, int);
#define asm(...) ((void)0)

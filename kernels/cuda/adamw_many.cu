// AdamW (Loshchilov & Hutter 2019, algorithm 2) of {{ count }} tensors, each of which has workgroups of its own. Each element
// goes the way that it goes in adamw.wgsl.
{% include "mma.cuh" %}
{% include "elements.cuh" %}
constexpr bool G = {{ grad0.dtype == "bf16" }}, P = {{ param0.dtype == "bf16" }}, M = {{ m0.dtype == "bf16" }}, V = {{ v0.dtype == "bf16" }};

// The part of a workgroup, which is the `part`th of its tensor's.
template <typename Grad, typename Param, typename First, typename Second>
__device__ __forceinline__ void update(
    const Params &params, const float *hyper, float factor, const Grad *grad, Param *param, First *m, Second *v, uint n,
    uint part, float decay
) {
    const float lr = hyper[0], correction1 = hyper[params.hyper_s0], correction2 = hyper[2 * params.hyper_s0];
#pragma unroll
    for (uint k = 0; k < {{ per }}; k++) {
        const uint i = (part * {{ per }} + k) * {{ workgroup_size }} + threadIdx.x;
        if (i >= n) return;
        const float g = read<G>(grad, i) * factor;
        const float m1 = params.beta1 * read<M>(m, i) + params.rest1 * g;
        const float v1 = params.beta2 * read<V>(v, i) + params.rest2 * (g * g);
        const float step = lr * (m1 / correction1) / (sqrtf(v1 / correction2) + params.eps);
        const float p = read<P>(param, i) * (1.0f - lr * decay) - step;
        write<M, false>(m + i, 1, false, m1, 0.0f);
        write<V, false>(v + i, 1, false, v1, 0.0f);
        write<P, false>(param + i, 1, false, p, 0.0f);
    }
}

extern "C" __global__ void __launch_bounds__({{ workgroup_size }}) {{ entry }}({{ arguments }}) {
    {{ operands }}
    const uint group = blockIdx.x + blockIdx.y * gridDim.x;
    uint first = 0;
{% for i in range(count) %}
    if (group < params.end{{ i }}) {
        update(params, hyper, *factor, grad{{ i }}, param{{ i }}, m{{ i }}, v{{ i }}, params.n{{ i }}, group - first, params.decay{{ i }});
        return;
    }
    first = params.end{{ i }};
{% endfor %}
}

{% from "chunks.wgsl" import args, index, getter, putter, main %}
{{ getter("grad", grad) }}
{{ getter("param", param) }}
{{ putter("param", param) }}
{{ getter("m", m) }}
{{ putter("m", m) }}
{{ getter("v", v) }}
{{ putter("v", v) }}
fn item({{ args(grad.rank) }}c: u32, k: u32) {
    let lr = ld_hyper(at_hyper(0u));
    let g = get_grad({{ index(grad.rank) }}c, k) * ld_factor(at_factor(0u));
    let m1 = params.beta1 * get_m({{ index(grad.rank) }}c, k) + params.rest1 * g;
    let v1 = params.beta2 * get_v({{ index(grad.rank) }}c, k) + params.rest2 * (g * g);
    let step = lr * (m1 / ld_hyper(at_hyper(1u))) / (sqrt(v1 / ld_hyper(at_hyper(2u))) + params.eps);
    let p = get_param({{ index(grad.rank) }}c, k) * (1.0 - lr * params.decay) - step;
    put_m({{ index(grad.rank) }}c, k, m1);
    put_v({{ index(grad.rank) }}c, k, v1);
    put_param({{ index(grad.rank) }}c, k, p);
}
{{ main(grad.rank, workgroup, workgroup_size) }}

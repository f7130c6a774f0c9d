{# Tiles in registers: an invocation computes {{ tm }} rows and {{ tn }} columns, and reads a and b itself. #}
{% set tile_rows = tm * wy %}
{% include "product.wgsl" %}
{% from "product_side.wgsl" import side %}
{{ side("", b, b_by, c, bias if biased else none, mode, accumulate) }}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_id) lid: vec3<u32>) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
    let p = part_of(group / params.tiles_n);
    let i0 = p.row + lid.y * {{ tm }}u;
    let j0 = (group % params.tiles_n * {{ wx }}u + lid.x) * {{ tn }}u;
    if i0 >= p.end || j0 >= params.n { return; }
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    var c{{ i }}_{{ x }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    // Rows and columns beyond the last one repeat it.
{% for i in range(tm) %}
    let a{{ i }} = a_at(p.z, min(i0 + {{ i }}u, p.end - 1u), 0u);
{% endfor %}
{% for j in range(tn) %}
    let b{{ j }} = b_at(p.z, 0u, min(j0 + {{ j }}u, params.n - 1u));
{% endfor %}
    var ea = p.k0 * a_step();
    var eb = p.k0 * b_step();
    var k = p.k0;
{% if fours %}
    // Four k at a time, by vectors.
    if {{ "true" if a_by == "k" else "i0 + " ~ tm ~ "u <= p.end" }} && {{ "true" if b_by == "k" else "j0 + " ~ tn ~ "u <= params.n" }} {
        for (; k + 4u <= p.k1; k += 4u) {
{% if a_by == "k" %}{% for i in range(tm) %}
            let r{{ i }} = ld4_a(a{{ i }} + ea);
{% endfor %}{% endif %}
{% if b_by == "k" %}{% for j in range(tn) %}
            let s{{ j }} = ld4_b(b{{ j }} + eb);
{% endfor %}{% endif %}
{% for q in range(4) %}
            {
{% if a_by == "mn" %}{% for x in range(tm // 4) %}
                let u{{ x }} = ld4_a(a{{ 4 * x }} + ea);
{% endfor %}
                ea += a_step();
{% endif %}
{% for x in range(tn // 4) %}
{% if b_by == "mn" %}
                let v{{ x }} = ld4_b(b{{ 4 * x }} + eb);
{% else %}
                let v{{ x }} = vec4<f32>(s{{ 4 * x }}[{{ q }}], s{{ 4 * x + 1 }}[{{ q }}], s{{ 4 * x + 2 }}[{{ q }}], s{{ 4 * x + 3 }}[{{ q }}]);
{% endif %}
{% endfor %}
{% if b_by == "mn" %}
                eb += b_step();
{% endif %}
{% for i in range(tm) %}{% for x in range(tn // 4) %}
                c{{ i }}_{{ x }} += {{ "r" ~ i ~ "[" ~ q ~ "]" if a_by == "k" else "u" ~ (i // 4) ~ "[" ~ (i % 4) ~ "]" }} * v{{ x }};
{% endfor %}{% endfor %}
            }
{% endfor %}
{% if a_by == "k" %}
            ea += 4u;
{% endif %}
{% if b_by == "k" %}
            eb += 4u;
{% endif %}
        }
    }
{% endif %}
    for (; k < p.k1; k++) {
{% for x in range(tn // 4) %}
        let v{{ x }} = vec4<f32>(ld_b(b{{ 4 * x }} + eb), ld_b(b{{ 4 * x + 1 }} + eb), ld_b(b{{ 4 * x + 2 }} + eb), ld_b(b{{ 4 * x + 3 }} + eb));
{% endfor %}
{% for i in range(tm) %}
        let r{{ i }} = ld_a(a{{ i }} + ea);
{% for x in range(tn // 4) %}
        c{{ i }}_{{ x }} += r{{ i }} * v{{ x }};
{% endfor %}
{% endfor %}
        ea += a_step();
        eb += b_step();
    }
    // A loop: written out, these stores would be most of the kernel.
    var sums = array<vec4<f32>, {{ tm * tn // 4 }}>({% for i in range(tm) %}{% for x in range(tn // 4) %}c{{ i }}_{{ x }}, {% endfor %}{% endfor %});
    for (var s = 0u; s < {{ tm * tn // 4 }}u; s++) {
        let i = i0 + s / {{ tn // 4 }}u;
        let j = j0 + s % {{ tn // 4 }}u * 4u;
        if i < p.end && j < params.n { finish(p, i, j, sums[s]); }
    }
}

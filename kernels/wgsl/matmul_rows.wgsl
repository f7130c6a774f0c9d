{# Few rows: an invocation computes {{ tm }} rows and {{ tn }} columns of part of the sum, which {{ wy }} invocations share.
   Where b is contiguous along n the sums are vectors of columns, otherwise of four k. #}
{% set tile_rows = tm %}
{% set by_n = b_by == "mn" %}
{% include "product.wgsl" %}
{% if wy > 1 %}

// Part of the sums: [row][column / 4][part][invocation along n].
var<workgroup> arena: array<vec4<f32>, {{ tm * tn // 4 * wy * wx }}>;
{% endif %}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_id) lid: vec3<u32>) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
    let p = part_of(group / params.tiles_n);
    // The same for the whole workgroup, as barriers want it.
    if p.row >= p.end { return; }
    let j0 = (group % params.tiles_n * {{ wx }}u + lid.x) * {{ tn }}u;
    // Rows and columns beyond the last one repeat it.
{% for i in range(tm) %}
    let a{{ i }} = a_at(p.z, min(p.row + {{ i }}u, p.end - 1u), 0u);
{% endfor %}
{% for j in range(tn) %}
    let b{{ j }} = b_at(p.z, 0u, min(j0 + {{ j }}u, params.n - 1u));
{% endfor %}
{% if by_n %}
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    var c{{ i }}_{{ x }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
{% for vectors in [true, false] %}
    {{ "if j0 + " ~ tn ~ "u <= params.n" if vectors else "else" }} {
        for (var k = p.k0 + lid.y; k < p.k1; k += {{ wy }}u) {
            let e = k * b_step();
{% for x in range(tn // 4) %}
{% if vectors %}
            let v{{ x }} = ld4_b(b{{ 4 * x }} + e);
{% else %}
            let v{{ x }} = vec4<f32>(ld_b(b{{ 4 * x }} + e), ld_b(b{{ 4 * x + 1 }} + e), ld_b(b{{ 4 * x + 2 }} + e), ld_b(b{{ 4 * x + 3 }} + e));
{% endif %}
{% endfor %}
{% for i in range(tm) %}
            let r{{ i }} = ld_a(a{{ i }} + k * a_step());
{% for x in range(tn // 4) %}
            c{{ i }}_{{ x }} += r{{ i }} * v{{ x }};
{% endfor %}
{% endfor %}
        }
    }
{% endfor %}
{% else %}
{% macro four(x, i) %}{% if (a_by if x == "a" else b_by) == "k" %}ld4_{{ x }}({{ x }}{{ i }} + k){% else %}vec4<f32>({% for q in range(4) %}ld_{{ x }}({{ x }}{{ i }} + (k + {{ q }}u) * {{ x }}_step()){{ ", " if q < 3 }}{% endfor %}){% endif %}{% endmacro %}
{% for i in range(tm) %}{% for j in range(tn) %}
    var s{{ i }}_{{ j }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    for (var k = p.k0 + lid.y * 4u; k + 4u <= p.k1; k += {{ 4 * wy }}u) {
{% for i in range(tm) %}
        let r{{ i }} = {{ four("a", i) }};
{% endfor %}
{% for j in range(tn) %}
        let v{{ j }} = {{ four("b", j) }};
{% for i in range(tm) %}
        s{{ i }}_{{ j }} += r{{ i }} * v{{ j }};
{% endfor %}
{% endfor %}
    }
    // What four don't divide.
    if lid.y == 0u {
        for (var k = p.k1 - (p.k1 - p.k0) % 4u; k < p.k1; k++) {
{% for i in range(tm) %}
            let r{{ i }} = ld_a(a{{ i }} + k * a_step());
{% endfor %}
{% for j in range(tn) %}
            let v{{ j }} = ld_b(b{{ j }} + k * b_step());
{% for i in range(tm) %}
            s{{ i }}_{{ j }}.x += r{{ i }} * v{{ j }};
{% endfor %}
{% endfor %}
        }
    }
{% for i in range(tm) %}{% for x in range(tn // 4) %}
{% for q in range(4) %}
    let d{{ i }}_{{ 4 * x + q }} = (s{{ i }}_{{ 4 * x + q }}.x + s{{ i }}_{{ 4 * x + q }}.y) + (s{{ i }}_{{ 4 * x + q }}.z + s{{ i }}_{{ 4 * x + q }}.w);
{% endfor %}
    let c{{ i }}_{{ x }} = vec4<f32>(d{{ i }}_{{ 4 * x }}, d{{ i }}_{{ 4 * x + 1 }}, d{{ i }}_{{ 4 * x + 2 }}, d{{ i }}_{{ 4 * x + 3 }});
{% endfor %}{% endfor %}
{% endif %}
{% if wy > 1 %}
    let at = lid.y * {{ wx }}u + lid.x;
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    arena[{{ (i * tn // 4 + x) * wy * wx }}u + at] = c{{ i }}_{{ x }};
{% endfor %}{% endfor %}
    workgroupBarrier();
    for (var half = {{ wy // 2 }}u; half > 0u; half >>= 1u) {
        if lid.y < half {
            for (var i = 0u; i < {{ tm * tn // 4 }}u; i++) {
                arena[i * {{ wy * wx }}u + at] += arena[i * {{ wy * wx }}u + at + half * {{ wx }}u];
            }
        }
        workgroupBarrier();
    }
    if lid.y > 0u { return; }
{% endif %}
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    if p.row + {{ i }}u < p.end && j0 + {{ 4 * x }}u < params.n {
        finish(p, p.row + {{ i }}u, j0 + {{ 4 * x }}u, {% if wy > 1 %}arena[{{ (i * tn // 4 + x) * wy * wx }}u + lid.x]{% else %}c{{ i }}_{{ x }}{% endif %});
    }
{% endfor %}{% endfor %}
}

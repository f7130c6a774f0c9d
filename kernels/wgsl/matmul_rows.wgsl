{# Few rows: an invocation computes {{ tm }} rows and {{ tn }} columns of part of the sum, which {{ wy }} invocations share.
   Where b is contiguous along n the sums are vectors of columns, otherwise of four k.

   There may be several products of one a. With `gated`, there are two of the same size, and one invocation does
   the same columns of both, and of y, the SwiGLU of them; otherwise workgroups do one after the other. #}
{% set tile_rows = tm %}
{% include "product.wgsl" %}
{% from "product_side.wgsl" import side %}
{% if products == 1 %}
{{ side("", b, b_by, c, bias if biased else none, mode, accumulate) }}
{% set sides = [["", b_by]] %}
{% else %}
{{ side("0", b0, b_by0, c0, bias0 if biased0 else none, mode, false) }}
{{ side("1", b1, b_by1, c1, bias1 if biased1 else none, mode, false) }}
{% set sides = [["0", b_by0], ["1", b_by1]] %}
{% if products == 3 %}
{{ side("2", b2, b_by2, c2, bias2 if biased2 else none, mode, false) }}
{% set sides = [["0", b_by0], ["1", b_by1], ["2", b_by2]] %}
{% endif %}
{% endif %}
{% if gated %}
{% from "chunks.wgsl" import getter, putter %}
{% include "math.wgsl" %}
{{ putter("y", y) }}
{% endif %}
{% if wy > 1 %}

// Part of the sums: [row][column / 4][part][invocation along n].
var<workgroup> arena: array<vec4<f32>, {{ tm * tn // 4 * wy * wx }}>;
{% endif %}

// What an invocation has of a product's rows; only that with lid.y = 0, where several share the sum.
struct Sums {
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    c{{ i }}_{{ x }}: vec4<f32>,
{% endfor %}{% endfor %}
}
{% for s, b_by in sides %}

fn multiply{{ s }}(p: Part, j0: u32, lid: vec3<u32>) -> Sums {
    // Rows and columns beyond the last one repeat it.
{% for i in range(tm) %}
    let a{{ i }} = a_at(p.z, min(p.row + {{ i }}u, p.end - 1u), 0u);
{% endfor %}
{% for j in range(tn) %}
    let b{{ j }} = b_at{{ s }}(p.z, 0u, min(j0 + {{ j }}u, params.n{{ s }} - 1u));
{% endfor %}
{% if b_by == "mn" %}
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    var c{{ i }}_{{ x }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
{% for vectors in [true, false] %}
    {{ "if j0 + " ~ tn ~ "u <= params.n" ~ s if vectors else "else" }} {
        for (var k = p.k0 + lid.y; k < p.k1; k += {{ wy }}u) {
            let e = k * b_step{{ s }}();
{% for x in range(tn // 4) %}
{% if vectors %}
            let v{{ x }} = ld4_b{{ s }}(b{{ 4 * x }} + e);
{% else %}
            let v{{ x }} = vec4<f32>(ld_b{{ s }}(b{{ 4 * x }} + e), ld_b{{ s }}(b{{ 4 * x + 1 }} + e), ld_b{{ s }}(b{{ 4 * x + 2 }} + e), ld_b{{ s }}(b{{ 4 * x + 3 }} + e));
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
{% macro four(x, by, at, step) %}{% if by == "k" %}ld4_{{ x }}({{ at }} + k){% else %}vec4<f32>({% for q in range(4) %}ld_{{ x }}({{ at }} + (k + {{ q }}u) * {{ step }}()){{ ", " if q < 3 }}{% endfor %}){% endif %}{% endmacro %}
{% for i in range(tm) %}{% for j in range(tn) %}
    var s{{ i }}_{{ j }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    for (var k = p.k0 + lid.y * 4u; k + 4u <= p.k1; k += {{ 4 * wy }}u) {
{% for i in range(tm) %}
        let r{{ i }} = {{ four("a", a_by, "a" ~ i, "a_step") }};
{% endfor %}
{% for j in range(tn) %}
        let v{{ j }} = {{ four("b" ~ s, b_by, "b" ~ j, "b_step" ~ s) }};
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
            let v{{ j }} = ld_b{{ s }}(b{{ j }} + k * b_step{{ s }}());
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
{% endif %}
    return Sums({% for i in range(tm) %}{% for x in range(tn // 4) %}{% if wy > 1 %}arena[{{ (i * tn // 4 + x) * wy * wx }}u + lid.x]{% else %}c{{ i }}_{{ x }}{% endif %}, {% endfor %}{% endfor %});
}

fn put{{ s }}(p: Part, j0: u32, sums: Sums) {
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    if p.row + {{ i }}u < p.end && j0 + {{ 4 * x }}u < params.n{{ s }} {
        finish{{ s }}(p, p.row + {{ i }}u, j0 + {{ 4 * x }}u, sums.c{{ i }}_{{ x }});
    }
{% endfor %}{% endfor %}
}
{% endfor %}
{% if gated %}

// What is in c0 and c1 was written by this invocation.
fn gate(p: Part, i: u32, j: u32) {
    if i >= p.end || j >= params.n0 { return; }
    let z = {{ "0u" if mode == "grouped" else "p.z" }};
    let m = min(params.n0 - j, 4u);
    let g = get_c0(z, i, j, m);
    put_y(z, i, j, m, g * sigmoid4(g) * get_c1(z, i, j, m));
}
{% endif %}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_id) lid: vec3<u32>) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
{% if gated %}
    let p = part_of(group / params.tiles_n0);
    // The same for the whole workgroup, as barriers want it.
    if p.row >= p.end { return; }
    let j0 = (group % params.tiles_n0 * {{ wx }}u + lid.x) * {{ tn }}u;
    let gates = multiply0(p, j0, lid);
{% if wy > 1 %}
    workgroupBarrier();
{% endif %}
    let ups = multiply1(p, j0, lid);
{% if wy > 1 %}
    if lid.y > 0u { return; }
{% endif %}
    put0(p, j0, gates);
    put1(p, j0, ups);
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    gate(p, p.row + {{ i }}u, j0 + {{ 4 * x }}u);
{% endfor %}{% endfor %}
{% else %}
{% for q in range(products) %}
{% set s = sides[q][0] %}
{% set own = "own" ~ s if q > 0 else "group" %}
{% if not loop.last %}
    if {{ own }} < params.groups{{ s }} {
{% else %}
    {
{% endif %}
        let p = part_of({{ own }} / params.tiles_n{{ s }});
        // The same for the whole workgroup, as barriers want it.
        if p.row >= p.end { return; }
        let j0 = ({{ own }} % params.tiles_n{{ s }} * {{ wx }}u + lid.x) * {{ tn }}u;
        let sums = multiply{{ s }}(p, j0, lid);
{% if wy > 1 %}
        if lid.y > 0u { return; }
{% endif %}
        put{{ s }}(p, j0, sums);
        return;
    }
{% if not loop.last %}
    let own{{ sides[q + 1][0] }} = {{ own }} - params.groups{{ s }};
{% endif %}
{% endfor %}
{% endif %}
}

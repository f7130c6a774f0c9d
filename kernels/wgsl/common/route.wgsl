{# route(t): chooses the experts of token t of `x` [tokens, experts], see hal's `Router`. Its scores, and those of its
   groups, are kept in the scratch operands `scores` and `grouped`, so that each is computed once: choices compare
   them for equality. Takes the operands `chosen`, `weights` and, with a bias, `bias`, and the parameters `experts`,
   `groups`, `top_groups`, `top_k` and `scale`. Needs math.wgsl. #}
{% macro route(scores_by, biased, grouped, group_score, normalize) %}
const NONE = 0xffffffffu;
struct Pick { value: f32, index: u32 }

// The better one of a choice so far and candidate `i`, which counts only if it comes after the last choice.
// Indices must ascend from call to call.
fn better(best: Pick, last: Pick, value: f32, i: u32) -> Pick {
    let after = last.index == NONE || value < last.value || (value == last.value && i > last.index);
    if after && (best.index == NONE || value > best.value) { return Pick(value, i); }
    return best;
}

fn biased(t: u32, e: u32) -> f32 {
    return ld_scores(at_scores(t, e)){% if biased %} + ld_bias(at_bias(e)){% endif %};
}

fn route(t: u32) {
{% if scores_by == "softmax" %}
    var largest = -3.4028234663852886e38;
    for (var e = 0u; e < params.experts; e++) { largest = max(largest, ld_x(at_x(t, e))); }
    var sum = 0.0;
    for (var e = 0u; e < params.experts; e++) {
        let p = exp(ld_x(at_x(t, e)) - largest);
        sum += p;
        st_scores(at_scores(t, e), p);
    }
    for (var e = 0u; e < params.experts; e++) {
        let i = at_scores(t, e);
        st_scores(i, ld_scores(i) / sum);
    }
{% else %}
    for (var e = 0u; e < params.experts; e++) { st_scores(at_scores(t, e), sigmoid(ld_x(at_x(t, e)))); }
{% endif %}
    let size = params.experts / params.groups;
{% if grouped %}
    for (var g = 0u; g < params.groups; g++) {
        var first = biased(t, g * size);
{% if group_score == "max" %}
        for (var e = 1u; e < size; e++) { first = max(first, biased(t, g * size + e)); }
        st_grouped(at_grouped(t, g), first);
{% else %}
        if size == 1u {
            st_grouped(at_grouped(t, g), first);
            continue;
        }
        var second = biased(t, g * size + 1u);
        if second > first {
            let s = first;
            first = second;
            second = s;
        }
        for (var e = 2u; e < size; e++) {
            let s = biased(t, g * size + e);
            second = max(second, min(first, s));
            first = max(first, s);
        }
        st_grouped(at_grouped(t, g), first + second);
{% endif %}
    }
    // The last group that is chosen.
    var worst = Pick(0.0, NONE);
    for (var k = 0u; k < params.top_groups; k++) {
        var best = Pick(0.0, NONE);
        for (var g = 0u; g < params.groups; g++) { best = better(best, worst, ld_grouped(at_grouped(t, g)), g); }
        worst = best;
    }
{% endif %}
    var last = Pick(0.0, NONE);
    var chosen = 0.0;
    for (var k = 0u; k < params.top_k; k++) {
        var best = Pick(0.0, NONE);
        for (var g = 0u; g < params.groups; g++) {
{% if grouped %}
            let s = ld_grouped(at_grouped(t, g));
            if s < worst.value || (s == worst.value && g > worst.index) { continue; }
{% endif %}
            for (var e = g * size; e < (g + 1u) * size; e++) { best = better(best, last, biased(t, e), e); }
        }
        last = best;
        // Only what is not a number has no order.
        let e = min(best.index, params.experts - 1u);
        chosen += ld_scores(at_scores(t, e));
        st_chosen(at_chosen(t, k), i32(e));
    }
    for (var k = 0u; k < params.top_k; k++) {
        let score = ld_scores(at_scores(t, u32(ld_chosen(at_chosen(t, k)))));
{% if normalize %}
        st_weights(at_weights(t, k), score / (chosen + 1e-20) * params.scale);
{% else %}
        st_weights(at_weights(t, k), score * params.scale);
{% endif %}
    }
}
{% endmacro %}

@compute {{ workgroup }}
fn main() {
    let norm = sqrt(ld_sum(at_sum(0u)));
    st_norm(at_norm(0u), norm);
    st_factor(at_factor(0u), min(params.max_norm / (norm + 1e-6), 1.0));
}

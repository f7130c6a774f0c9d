//! Workgroup memory: declared by the kernel or, where CUDA demands it, given by the launch.

use naga::{AddressSpace, GlobalVariable, Handle, Module};

use super::Dialect;

/// Bytes of workgroup memory that a CUDA C kernel can declare; a device may have more, which a launch gives
/// ("CUDA C++ Programming Guide", "Shared Memory" of compute capability 8.x and later).
const DECLARED: u32 = 48 << 10;

/// Where each variable lies in what the launch gives.
const ALIGNMENT: u32 = 16;

/// Bytes of workgroup memory that the launch of `module`'s kernel has to give: in CUDA C, all of it where it is
/// more than 48 KiB. Otherwise 0.
pub(crate) fn dynamic_bytes(module: &Module, dialect: Dialect) -> u32 {
    let bytes = offsets(module).last().map_or(0, |(_, _, end)| end);
    if dialect == Dialect::CudaC && bytes > DECLARED { bytes } else { 0 }
}

/// Where `variable` lies in what the launch gives.
pub(super) fn offset(module: &Module, variable: Handle<GlobalVariable>) -> u32 {
    offsets(module).find(|(handle, ..)| *handle == variable).map_or(0, |(_, start, _)| start)
}

/// The variables with their first byte and where the next may begin. Sizes are WGSL's, and C's aren't larger.
fn offsets(module: &Module) -> impl Iterator<Item = (Handle<GlobalVariable>, u32, u32)> {
    let workgroup = module.global_variables.iter().filter(|(_, g)| g.space == AddressSpace::WorkGroup);
    workgroup.scan(0, |end: &mut u32, (handle, global)| {
        let start = *end;
        let bytes = module.types[global.ty].inner.size(module.to_ctx());
        *end = start.saturating_add(bytes).saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        Some((handle, start, *end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;

    fn kernel(vectors: u32) -> Kernel {
        let wgsl = format!(
            "@group(0) @binding(1) var<storage, read_write> y: array<f32>;
            var<workgroup> flag: u32;
            var<workgroup> tile: array<vec4<f32>, {vectors}>;
            @compute @workgroup_size(32) fn main(@builtin(local_invocation_index) i: u32) {{
                if i == 0u {{ flag = 1u; }}
                tile[i] = vec4<f32>(f32(i));
                workgroupBarrier();
                y[i] = tile[31u - i].x + f32(flag);
            }}"
        );
        Kernel::from_wgsl("k", wgsl).unwrap()
    }

    #[test]
    fn much_memory_is_left_to_the_launch() {
        // 3071 vectors and the flag's 16 bytes are 48 KiB.
        let small = kernel(3071).to_cuda_c().unwrap();
        assert_eq!(small.dynamic_bytes, 0);
        let source = small.text;
        assert!(
            source.contains("__shared__ uint flag;") && !source.contains("extern __shared__"),
            "{source}"
        );

        let wgsl = kernel(3072);
        let large = wgsl.to_cuda_c().unwrap();
        assert_eq!(large.dynamic_bytes, (48 << 10) + 16);
        let source = large.text;
        assert_eq!(source.matches("__shared__").count(), 1, "{source}");
        assert!(source.contains("extern __shared__ uint4 workgroup_memory[];"), "{source}");
        assert!(source.contains("uint &flag = *(uint *)((char *)workgroup_memory + 0);"), "{source}");
        assert!(source.contains("((char *)workgroup_memory + 16);"), "{source}");
        assert!(!wgsl.parse().unwrap().c(Dialect::OpenClC).unwrap().contains("workgroup_memory"));
    }
}

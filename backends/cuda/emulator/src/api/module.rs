//! Modules, functions, and what these say of themselves.

use super::{In, Out, bytes_at, entry_points};
use crate::driver::{Answer, Driver, Handle};
use crate::module::{SHARED_OPT_IN, max_threads};
use cudarc::driver::sys::{CUfunction_attribute as Attribute, CUjit_option, CUresult};
use std::ffi::{c_char, c_int, c_uint, c_void};

/// Where a log goes, and how large it may be.
type Log = (Out<c_char>, usize);

fn load(driver: &mut Driver, module: Out<Handle>, image: In<c_char>, log: Option<Log>) -> Answer {
    let write = |text: &str| log.map_or(Ok(()), |(place, bytes)| place.put_text(text, bytes));
    // What isn't text is machine code, or nothing known.
    let text = image.text().map_err(|code| match image.is_none() {
        true => code,
        false => CUresult::CUDA_ERROR_INVALID_IMAGE,
    })?;
    match driver.load(text) {
        Ok(handle) => {
            write("")?;
            module.put(handle)
        }
        Err((code, message)) => {
            write(&message)?;
            Err(code)
        }
    }
}

/// The place for messages about errors, among the options for the compiler of PTX.
fn error_log(count: c_uint, options: In<c_uint>, values: In<*mut c_void>) -> Answer<Option<Log>> {
    let (options, values) = (options.all(count as usize)?, values.all(count as usize)?);
    let value = |which: CUjit_option| {
        let index = options.iter().position(|option| *option == which as c_uint)?;
        Some(values[index])
    };
    let place = value(CUjit_option::CU_JIT_ERROR_LOG_BUFFER);
    let bytes = value(CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
    // A number stands in for a pointer.
    Ok(place.zip(bytes).map(|(place, bytes)| (Out(place.cast()), bytes as usize)).filter(|(_, n)| *n > 0))
}

entry_points! {
    fn cuModuleLoadData(module: Out<Handle>, image: In<c_char>) |driver| load(driver, module, image, None);

    fn cuModuleLoadDataEx(
        module: Out<Handle>, image: In<c_char>, count: c_uint, options: In<c_uint>, values: In<*mut c_void>,
    ) |driver| {
        let log = error_log(count, options, values)?;
        load(driver, module, image, log)
    };

    fn cuModuleUnload(module: Handle) |driver| driver.unload(module);

    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: In<c_char>) |driver| {
        function.put(driver.find_function(module, name.text()?)?)
    };

    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: Handle, name: In<c_char>) |driver| {
        let (found, size) = driver.module(module)?.global(name.text()?)?;
        address.put_if(found);
        bytes.put_if(size as usize);
        Ok(())
    };

    fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_uint, function: Handle) |driver| {
        let arch = driver.config.arch as c_int;
        let function = driver.function(function)?;
        let kernel = &function.kernel;
        let known = [
            (Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, max_threads(kernel) as c_int),
            (Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel.static_shared as c_int),
            (Attribute::CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, 0),
            (Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, kernel.local_bytes as c_int),
            (Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS, kernel.registers as c_int),
            (Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION, arch),
            (Attribute::CU_FUNC_ATTRIBUTE_BINARY_VERSION, arch),
            (Attribute::CU_FUNC_ATTRIBUTE_CACHE_MODE_CA, 0),
            (Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, function.max_dynamic as c_int),
            (Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, -1),
        ];
        let found = known.into_iter().find(|(known, _)| *known as c_uint == attribute);
        value.put(found.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?.1)
    };

    fn cuFuncSetAttribute(function: Handle, attribute: c_uint, value: c_int) |driver| {
        let function = driver.function(function)?;
        let most = SHARED_OPT_IN.saturating_sub(function.kernel.static_shared);
        if attribute == Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as c_uint {
            return Ok(());
        }
        let largest = attribute == Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_uint;
        let value = u32::try_from(value).ok().filter(|bytes| largest && *bytes <= most);
        function.max_dynamic = value.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        Ok(())
    };

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<c_int>, function: Handle, threads: c_int, dynamic: usize,
    ) |driver| {
        let kernel = &driver.function(function)?.kernel;
        let threads = u64::try_from(threads).ok().filter(|n| (1..=1024).contains(n));
        let threads = threads.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?.next_multiple_of(32);
        let registers = threads * u64::from(kernel.registers.max(1).next_multiple_of(8));
        // A block takes 1 KiB of shared memory for the system.
        let shared = u64::from(kernel.static_shared) + dynamic as u64 + 1024;
        let fit = 32.min(2048 / threads).min((64 << 10) / registers).min((228 << 10) / shared);
        blocks.put(fit as c_int)
    };
}

/// The arguments of a kernel, from a pointer to each or from a buffer with all of them.
pub(super) fn params(
    driver: &mut Driver,
    function: Handle,
    each: In<*const c_void>,
    extra: In<*const c_void>,
) -> Answer<Vec<u8>> {
    let kernel = driver.function(function)?.kernel.clone();
    let mut bytes = vec![0; kernel.param_bytes];
    if !each.is_none() {
        for (param, address) in kernel.params.iter().zip(each.all(kernel.params.len())?) {
            let place = &mut bytes[param.offset..param.offset + param.bytes];
            place.copy_from_slice(bytes_at(*address, param.bytes)?);
        }
    } else if !extra.is_none() {
        // Pairs: 1 and where the buffer is, 2 and where its size is; 0 ends.
        let pairs = extra.all(5)?;
        let after =
            |key: usize| pairs.iter().step_by(2).position(|k| *k as usize == key).map(|i| pairs[2 * i + 1]);
        let (buffer, size) = after(1).zip(after(2)).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let size = In(size.cast::<usize>()).get()?;
        if size > bytes.len() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        bytes[..size].copy_from_slice(bytes_at(buffer, size)?);
    } else if !kernel.params.is_empty() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    Ok(bytes)
}

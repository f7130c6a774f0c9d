//! The entry points, as CUDA's driver API documents them. A module a subject.
//!
//! Arguments that point at something are [`In`] and [`Out`], which hold all that is unsafe about them; handles
//! are numbers.

// What each is for, and what it expects, is in CUDA's documentation, as are the names.
#![allow(missing_docs, non_snake_case)]

use crate::driver::{Answer, Driver, lock};
use cudarc::driver::sys::CUresult;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub mod context;
pub mod copy;
pub mod device;
pub mod event;
pub mod graph;
pub mod launch;
pub mod library;
pub mod memory;
pub mod module;
pub mod stream;

/// Where a call puts a result.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Out<T>(*mut T);

/// What a call reads, one value or several.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct In<T>(*const T);

impl<T> From<&mut T> for Out<T> {
    fn from(place: &mut T) -> Self {
        Out(place)
    }
}

impl<T> From<&mut [T]> for Out<T> {
    fn from(places: &mut [T]) -> Self {
        Out(places.as_mut_ptr())
    }
}

impl<T> From<&T> for In<T> {
    fn from(value: &T) -> Self {
        In(value)
    }
}

impl<T> From<&[T]> for In<T> {
    fn from(values: &[T]) -> Self {
        In(values.as_ptr())
    }
}

impl From<&CStr> for In<c_char> {
    fn from(text: &CStr) -> Self {
        In(text.as_ptr())
    }
}

impl<T> Out<T> {
    /// Nowhere.
    pub fn none() -> Self {
        Out(std::ptr::null_mut())
    }

    /// Puts it there; nowhere is an invalid value.
    pub(crate) fn put(self, value: T) -> Answer {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        self.put_if(value);
        Ok(())
    }

    /// Puts it there, unless there is nowhere.
    pub(crate) fn put_if(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: whoever calls the entry point gives a place for the value.
            unsafe { self.0.write(value) };
        }
    }

    /// What is there.
    pub(crate) fn get(self) -> Answer<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// Puts all of them there.
    pub(crate) fn put_all(self, values: &[T]) -> Answer
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: whoever calls the entry point gives a place for as many values as it says.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0, values.len()) };
        Ok(())
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

impl Out<c_char> {
    /// Puts as much of a text there as fits into `bytes`, with a zero at its end.
    pub(crate) fn put_text(self, text: &str, bytes: usize) -> Answer {
        let fits = bytes.checked_sub(1).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?.min(text.len());
        let text: Vec<c_char> = text.bytes().take(fits).chain([0]).map(|byte| byte as c_char).collect();
        self.put_all(&text)
    }
}

impl<T: Copy> In<T> {
    /// Nothing.
    pub fn none() -> Self {
        In(std::ptr::null())
    }

    /// The value; nothing is an invalid one.
    pub(crate) fn get(self) -> Answer<T> {
        self.all(1).map(|values| values[0])
    }

    /// So many values.
    pub(crate) fn all<'a>(self, count: usize) -> Answer<&'a [T]> {
        match count {
            0 => Ok(&[]),
            _ if self.0.is_null() => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
            // SAFETY: whoever calls the entry point gives as many values as it says, and keeps them meanwhile.
            _ => Ok(unsafe { std::slice::from_raw_parts(self.0, count) }),
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }
}

/// Bytes at an address of the host.
pub(crate) fn bytes_at<'a>(address: *const c_void, count: usize) -> Answer<&'a [u8]> {
    In(address.cast::<u8>()).all(count)
}

impl In<c_char> {
    /// The text up to its zero.
    pub(crate) fn text<'a>(self) -> Answer<&'a str> {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: whoever calls the entry point gives a text that ends with a zero, and keeps it meanwhile.
        unsafe { CStr::from_ptr(self.0) }.to_str().map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)
    }
}

/// Runs an entry point with the driver locked.
fn answer(body: impl FnOnce(&mut Driver) -> Answer) -> CUresult {
    let run = || match &mut *lock() {
        Some(driver) => body(driver),
        None => Err(CUresult::CUDA_ERROR_NOT_INITIALIZED),
    };
    // A panic can't cross to the caller, who may not be Rust.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => CUresult::CUDA_SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => CUresult::CUDA_ERROR_UNKNOWN,
    }
}

/// Defines entry points, each with what it does to the driver, and `TABLE`, their names and addresses.
macro_rules! entry_points {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($argument: $type),*) -> ::cudarc::driver::sys::CUresult {
                $crate::api::answer($body)
            }
        )*
        pub(super) const TABLE: &[(&str, *const ())] = &[$((stringify!($name), $name as *const ())),*];
    };
}
use entry_points;

/// Names and addresses of all entry points that can be asked for by name.
fn tables() -> [&'static [(&'static str, *const ())]; 9] {
    [
        context::TABLE,
        copy::TABLE,
        device::TABLE,
        event::TABLE,
        graph::TABLE,
        launch::TABLE,
        memory::TABLE,
        module::TABLE,
        stream::TABLE,
    ]
}

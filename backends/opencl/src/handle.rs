//! Objects of the OpenCL runtime, released when dropped.
//!
//! opencl3 has such types too, but theirs panic when a release fails, as it may after a device is lost.

use crate::quirks::turn;
use opencl3::command_queue::{release_command_queue, retain_command_queue};
use opencl3::context::context::{release_context, retain_context};
use opencl3::event::{release_event, retain_event};
use opencl3::kernel::release_kernel;
use opencl3::memory::{release_mem_object, retain_mem_object};
use opencl3::program::release_program;
use opencl3::types::{cl_command_queue, cl_context, cl_event, cl_int, cl_kernel, cl_mem, cl_program};

macro_rules! handle {
    ($name:ident, $raw:ty, $release:path $(, $retain:path)?) => {
        /// One reference to an object of the runtime.
        pub(crate) struct $name($raw);

        impl $name {
            /// Takes over a reference.
            ///
            /// # Safety
            /// The object is alive, and the caller gives up one reference to it.
            pub(crate) unsafe fn owned(raw: $raw) -> Self {
                $name(raw)
            }

            $(
                /// Adds a reference.
                ///
                /// # Safety
                /// The object is alive.
                pub(crate) unsafe fn retained(raw: $raw) -> Result<Self, cl_int> {
                    // SAFETY: the caller says that the object is alive.
                    unsafe { $retain(raw) }.map(|()| $name(raw))
                }
            )?

            pub(crate) fn raw(&self) -> $raw {
                self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let _turn = turn();
                // SAFETY: this value has one reference of its own, and gives it up here.
                if let Err(code) = unsafe { $release(self.0) } {
                    tracing::debug!(code, concat!("releasing an OpenCL ", stringify!($name), " failed"));
                }
            }
        }

        // SAFETY: OpenCL's calls may be made from any thread, and from several at once; the exception is
        // setting a kernel's arguments, for which `prepared` has sole access.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
}

handle!(Context, cl_context, release_context, retain_context);
handle!(CommandQueue, cl_command_queue, release_command_queue, retain_command_queue);
handle!(Memory, cl_mem, release_mem_object, retain_mem_object);
handle!(Program, cl_program, release_program);
handle!(Kernel, cl_kernel, release_kernel);
handle!(Event, cl_event, release_event, retain_event);

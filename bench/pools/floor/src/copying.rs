//! Copies of 400 MB into pages that were used before, and into pages that were not.
//!
//! Fresh shared pages are what a pool writes to that makes a new segment for every array; recycled
//! ones are what it writes to when it keeps them.
//!
//! Units: GB/s of bytes copied, medians.

use std::io;
use std::ptr;
use std::time::Instant;

const BYTES: usize = 400_000_000;
const REPETITIONS: usize = 5;

/// Both rates.
pub struct Copies {
    /// Into pages that an earlier copy has touched.
    pub recycled_gb_s: f64,
    /// Into pages that the kernel must still provide.
    pub fresh_gb_s: f64,
}

/// Measure both.
pub fn measure() -> io::Result<Copies> {
    let source = vec![7_u8; BYTES];
    let kept = Mapping::new()?;
    kept.time_copy(&source);
    let recycled = (0..REPETITIONS).map(|_| kept.time_copy(&source)).collect();
    let fresh = (0..REPETITIONS)
        .map(|_| Ok(Mapping::new()?.time_copy(&source)))
        .collect::<io::Result<Vec<f64>>>()?;
    Ok(Copies {
        recycled_gb_s: median(recycled),
        fresh_gb_s: median(fresh),
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Shared memory of `BYTES` bytes, given back when dropped.
struct Mapping {
    address: *mut u8,
}

impl Mapping {
    fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping, at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = address.cast();
        Ok(Self { address })
    }

    /// Copy the source into the mapping, and return the rate in GB/s.
    fn time_copy(&self, source: &[u8]) -> f64 {
        assert!(source.len() == BYTES);
        let before = Instant::now();
        // SAFETY: both are `BYTES` long and valid, and a fresh mapping overlaps with nothing.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), self.address, BYTES) };
        BYTES as f64 / before.elapsed().as_nanos() as f64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, was made with this length, and is not used after this.
        unsafe { libc::munmap(self.address.cast(), BYTES) };
    }
}

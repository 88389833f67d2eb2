//! What the processor can do at the most: fused multiply-adds of float32, from registers to registers.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Multiply-adds of each sum in a call of the loop.
const ROUNDS: usize = 100_000;

/// Billions of floating-point operations a second, two in each multiply-add, on `threads` threads for `time`.
pub fn gflops(threads: usize, time: Duration) -> f64 {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(move || of_this_thread(time))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

fn of_this_thread(time: Duration) -> f64 {
    let started = Instant::now();
    let mut operations = 0;
    while started.elapsed() < time {
        operations += 2 * multiply_adds(black_box(1e-3));
    }
    operations as f64 / started.elapsed().as_secs_f64() * 1e-9
}

/// Does as many multiply-adds as it says.
fn multiply_adds(x: f32) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::with_avx512(x) };
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::with_avx2(x) };
        }
    }
    portable(x)
}

/// As fast as the compiler makes it for any processor of the architecture.
fn portable(x: f32) -> usize {
    const LANES: usize = 32;
    let mut sums = [x; LANES];
    for _ in 0..ROUNDS {
        sums = sums.map(|sum| sum.mul_add(x, x));
    }
    black_box(sums);
    LANES * ROUNDS
}

/// As many sums side by side as it takes to hide the latency of a multiply-add, each in a register of its own.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    use std::hint::black_box;

    use super::ROUNDS;

    #[target_feature(enable = "avx512f")]
    pub fn with_avx512(x: f32) -> usize {
        let x = _mm512_set1_ps(x);
        let mut sums = [x; 16];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
        sums.len() * 16 * ROUNDS
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn with_avx2(x: f32) -> usize {
        let x = _mm256_set1_ps(x);
        let mut sums = [x; 12];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
        sums.len() * 8 * ROUNDS
    }
}

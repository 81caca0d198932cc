//! The arithmetic of both models, in one order on all machines.
//!
//! A scalar product is four partial sums, of every fourth pair each, that are added at its end: [`LANES`] is what a vector
//! register of WebAssembly and of every x86-64 holds. How many products are computed side by side is a matter of speed
//! only, so a text's embedding doesn't depend on what's computed with it.

/// Partial sums of a scalar product.
const LANES: usize = 4;
/// Rows of a matrix that are multiplied side by side.
pub(crate) const ROWS: usize = 4;
/// Vectors that they are multiplied with side by side. With [`ROWS`], as many sums as registers hold.
const COLUMNS: usize = 2;

/// Multiplies each vector of `xs` with each of `rows`, all of `width` numbers.
///
/// The product of vector `i` and row `j` goes to `out[i * stride + first + j]`.
///
/// # Panics
/// If `width` isn't a multiple of four, or `out` is too short.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
pub(crate) fn multiply(
    rows: &[f32],
    xs: &[f32],
    width: usize,
    out: &mut [f32],
    stride: usize,
    first: usize,
) {
    assert!(width.is_multiple_of(LANES), "vectors are of {width} numbers");
    for (block, rows) in rows.chunks(ROWS * width).enumerate() {
        let column = first + ROWS * block;
        for (pair, xs) in xs.chunks(COLUMNS * width).enumerate() {
            let at = COLUMNS * pair * stride + column;
            if rows.len() == ROWS * width && xs.len() == COLUMNS * width {
                let products = tile(split::<ROWS>(rows, width), split::<COLUMNS>(xs, width));
                for (i, products) in products.iter().enumerate() {
                    out[at + i * stride..][..ROWS].copy_from_slice(products);
                }
            } else {
                for (i, x) in xs.chunks_exact(width).enumerate() {
                    for (j, row) in rows.chunks_exact(width).enumerate() {
                        out[at + i * stride + j] = dot(row, x);
                    }
                }
            }
        }
    }
}

/// The scalar product of two vectors of one width.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (quads_a, rest_a) = a.as_chunks::<LANES>();
    let (quads_b, rest_b) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in quads_a.iter().zip(quads_b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest = rest_a.iter().zip(rest_b).fold(0.0, |sum, (a, b)| sum + a * b);
    total(sums) + rest
}

/// Softmax, in place: `e^x / Σ e^x`.
pub(crate) fn softmax(xs: &mut [f32]) {
    let largest = xs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in xs.iter_mut() {
        *x = libm::expf(*x - largest);
        sum += *x;
    }
    for x in xs {
        *x /= sum;
    }
}

/// `ln Σ e^x`; of many numbers, so the sum is in double precision.
#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision")]
pub(crate) fn log_sum_exp(xs: &[f32]) -> f32 {
    let largest = xs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = xs.iter().fold(0.0, |sum, x| sum + f64::from(libm::expf(x - largest)));
    largest + libm::log(sum) as f32
}

/// What attends to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    /// Heads of the queries.
    pub(crate) heads: usize,
    /// Heads of keys and values; each serves as many heads of queries as the others.
    pub(crate) kv_heads: usize,
    /// Numbers of a head.
    pub(crate) width: usize,
}

impl Attention {
    /// Attention of each query to the first keys and values: query `i` sees `visible(i)` of them.
    #[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
    pub(crate) fn attend(
        self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        visible: impl Fn(usize) -> usize,
    ) -> Vec<f32> {
        let Self { heads, kv_heads, width } = self;
        let scale = 1.0 / (width as f32).sqrt();
        let mut out = vec![0.0; queries.len()];
        let mut weights = Vec::new();
        let queries = queries.chunks_exact(heads * width);
        for (i, (query, out)) in queries.zip(out.chunks_exact_mut(heads * width)).enumerate() {
            for head in 0..heads {
                let kv = head / (heads / kv_heads) * width;
                let at = head * width..(head + 1) * width;
                let (query, out) = (&query[at.clone()], &mut out[at]);
                let seen = |all| slices(all, kv_heads * width, kv..kv + width).take(visible(i));
                weights.clear();
                weights.extend(seen(keys).map(|key| dot(query, key) * scale));
                softmax(&mut weights);
                for (weight, value) in weights.iter().zip(seen(values)) {
                    add_scaled(out, *weight, value);
                }
            }
        }
        out
    }
}

/// Adds `ys` to `xs`, number by number.
pub(crate) fn add(xs: &mut [f32], ys: &[f32]) {
    for (x, y) in xs.iter_mut().zip(ys) {
        *x += y;
    }
}

/// Adds `scale * ys` to `xs`, number by number.
#[inline(always)]
pub(crate) fn add_scaled(xs: &mut [f32], scale: f32, ys: &[f32]) {
    for (x, y) in xs.iter_mut().zip(ys) {
        *x += scale * y;
    }
}

/// The numbers `range` of each vector of `stride`.
#[inline(always)]
fn slices(
    all: &[f32],
    stride: usize,
    range: std::ops::Range<usize>,
) -> impl Iterator<Item = &[f32]> {
    all.chunks_exact(stride).map(move |vector| &vector[range.clone()])
}

/// All products of some vectors with some rows: `[vector][row]`, each as [`dot`] gives it.
#[inline(always)]
fn tile<const R: usize, const C: usize>(
    rows: [&[[f32; LANES]]; R],
    xs: [&[[f32; LANES]]; C],
) -> [[f32; R]; C] {
    let quads = rows[0].len();
    let rows = rows.map(|row| &row[..quads]);
    let xs = xs.map(|x| &x[..quads]);
    let mut sums = [[[0.0; LANES]; R]; C];
    for k in 0..quads {
        for c in 0..C {
            for r in 0..R {
                for lane in 0..LANES {
                    sums[c][r][lane] += rows[r][k][lane] * xs[c][k][lane];
                }
            }
        }
    }
    totals(&sums)
}

/// Not inlined, so that the compiler has no reason to keep the sums of four rows in a register instead of those of four
/// lanes: it would shuffle in each step to save four additions at the end.
#[inline(never)]
fn totals<const R: usize, const C: usize>(sums: &[[[f32; LANES]; R]; C]) -> [[f32; R]; C] {
    sums.map(|sums| sums.map(total))
}

#[inline(always)]
fn total([a, b, c, d]: [f32; LANES]) -> f32 {
    (a + c) + (b + d)
}

#[inline(always)]
fn split<const N: usize>(all: &[f32], width: usize) -> [&[[f32; LANES]]; N] {
    std::array::from_fn(|i| all[i * width..(i + 1) * width].as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| libm::sinf(i as f32)).collect()
    }

    #[test]
    fn products_do_not_depend_on_what_is_computed_beside_them() {
        let (width, rows, xs) = (12, 7, 5);
        let (a, b) = (numbers(rows * width), numbers(xs * width));
        let mut out = vec![0.0; xs * 9];
        multiply(&a, &b, width, &mut out, 9, 2);
        for i in 0..xs {
            for j in 0..rows {
                let expected = dot(&a[j * width..][..width], &b[i * width..][..width]);
                assert_eq!(out[i * 9 + 2 + j].to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn dot_takes_what_is_over() {
        assert_eq!(dot(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0; 5]), 15.0);
    }

    #[test]
    fn softmax_sums_to_one_even_of_large_numbers() {
        let mut xs = [1000.0, 1000.0];
        softmax(&mut xs);
        assert_eq!(xs, [0.5, 0.5]);
        assert_eq!(log_sum_exp(&[1000.0]), 1000.0);
    }

    #[test]
    fn query_sees_what_is_visible_only() {
        let attention = Attention { heads: 2, kv_heads: 1, width: 4 };
        let values = [[1.0; 4], [3.0; 4]].concat();
        let out = attention.attend(&[0.0; 16], &[0.0; 8], &values, |i| i + 1);
        assert_eq!(out, [[1.0; 8], [2.0; 8]].concat());
    }
}

use super::element::{Element, with_type};
use crate::TensorData;

/// Elements of a row-major buffer at regular distances, in the order of the view's own axes:
/// what transposing, slicing and broadcasting make of a tensor without moving anything.
pub(super) struct Strided {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<i64>,
    pub(super) offset: i64,
}

impl Strided {
    /// All elements of a tensor of `shape`.
    pub(super) fn new(shape: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as i64;
        }
        Strided { shape: shape.to_vec(), strides, offset: 0 }
    }

    /// A tensor of `shape` repeated to `target`, to which it has to broadcast.
    pub(super) fn broadcast(shape: &[usize], target: &[usize]) -> Self {
        let view = Strided::new(shape);
        let new = target.len() - shape.len();
        let repeated = (0..target.len()).map(|axis| match axis.checked_sub(new) {
            Some(axis) if shape[axis] != 1 => view.strides[axis],
            _ => 0,
        });
        Strided { strides: repeated.collect(), shape: target.to_vec(), offset: 0 }
    }

    /// Where in the buffer each element is.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        let mut position = vec![0; self.shape.len()];
        let mut next = self.offset;
        (0..self.shape.iter().product()).map(move |_| {
            let index = next;
            for (axis, coordinate) in position.iter_mut().enumerate().rev() {
                *coordinate += 1;
                next += self.strides[axis];
                if *coordinate < self.shape[axis] {
                    break;
                }
                next -= self.strides[axis] * self.shape[axis] as i64;
                *coordinate = 0;
            }
            index as usize
        })
    }

    /// The elements themselves, of `data` as the buffer.
    pub(super) fn take(&self, data: &TensorData) -> TensorData {
        take(data, self.indices())
    }
}

/// The elements of `data` at `indices`.
pub(super) fn take(data: &TensorData, indices: impl Iterator<Item = usize>) -> TensorData {
    with_type!(data.element(), T => {
        let values = T::of(data).unwrap_or_default();
        T::into_data(indices.map(|index| values[index]).collect())
    })
}

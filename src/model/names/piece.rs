//! Which part of a runtime parameter a tensor on disk is.
//!
//! A [`Piece`] says for every axis of the stored tensor along which axis of the parameter it runs, from where, and with which
//! step; transposing, slicing, joining and taking every second row are all said that way, and compose.

use crate::tensor::shape::Shape;

/// One axis of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Along {
    /// The parameter's axis that it runs along; none if the parameter sees one position of it only.
    pub runtime: Option<usize>,
    /// Position on the parameter's axis of the first.
    pub at: u64,
    /// Position on disk of the first.
    pub disk: u64,
    /// Positions on disk from one to the next.
    pub step: u64,
    /// How many there are.
    pub count: u64,
}

/// The part of a parameter that a stored tensor, or some of it, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The stored tensor's axes, slowest first.
    pub axes: Vec<Along>,
    /// Axes of the parameter that the stored tensor does not have, and the position that it stands at on each.
    pub fixed: Vec<(usize, u64)>,
}

/// A part of a parameter, and the tensor that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Place of the tensor among the base's.
    pub tensor: usize,
    /// Which part.
    pub piece: Piece,
}

/// How far one moves in a stored tensor for a step along one of the parameter's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stride {
    /// The parameter's axis.
    pub runtime: usize,
    /// First position on it.
    pub at: u64,
    /// Number of positions.
    pub count: u64,
    /// Elements of the stored tensor from one to the next; nothing is stored along a fixed axis, so it is 0 there.
    pub stride: u64,
}

impl Piece {
    /// A parameter that is stored as it is.
    pub fn whole(shape: &[u64]) -> Piece {
        let along = |(axis, &count)| Along { runtime: Some(axis), at: 0, disk: 0, step: 1, count };
        Piece { axes: shape.iter().enumerate().map(along).collect(), fixed: Vec::new() }
    }

    /// Whether it is all of a parameter of that shape, stored as it is.
    pub fn is_whole(&self, shape: &[u64]) -> bool {
        *self == Piece::whole(shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.axes.iter().map(|along| along.count).product()
    }

    /// The element of the stored tensor (of that shape) that its first is, and how each of the parameter's axes runs there.
    pub fn strides(&self, disk: &Shape) -> (u64, Vec<Stride>) {
        let (mut start, mut stride, mut strides) = (0, 1, Vec::new());
        for (along, size) in self.axes.iter().zip(disk.axes()).rev() {
            start += along.disk * stride;
            if let Some(runtime) = along.runtime {
                strides.push(Stride {
                    runtime,
                    at: along.at,
                    count: along.count,
                    stride: along.step * stride,
                });
            }
            stride *= size;
        }
        strides.extend(self.fixed.iter().map(|&(runtime, at)| Stride { runtime, at, count: 1, stride: 0 }));
        strides.sort_by_key(|stride| stride.runtime);
        (start, strides)
    }

    /// The positions `start, start + step, …` of the parameter's axis alone, which are counted from 0 then; none if it has none of them.
    pub fn select(mut self, axis: usize, start: u64, step: u64, count: u64) -> Option<Piece> {
        for (fixed, at) in &mut self.fixed {
            if *fixed == axis {
                let from = at.checked_sub(start)?;
                *at = (from % step == 0 && from / step < count).then_some(from / step)?;
                return Some(self);
            }
        }
        let along = self.axes.iter_mut().find(|along| along.runtime == Some(axis))?;
        let first = along.at.saturating_sub(start).div_ceil(step);
        let last = (along.at + along.count).saturating_sub(start).div_ceil(step).min(count);
        if first >= last {
            return None;
        }
        along.disk += (start + first * step - along.at) * along.step;
        along.step *= step;
        (along.at, along.count) = (first, last - first);
        Some(self)
    }

    /// The parameter moved by so much along an axis.
    pub fn shifted(mut self, axis: usize, by: u64) -> Piece {
        for along in self.axes.iter_mut().filter(|along| along.runtime == Some(axis)) {
            along.at += by;
        }
        for (_, at) in self.fixed.iter_mut().filter(|(fixed, _)| *fixed == axis) {
            *at += by;
        }
        self
    }

    /// Two of the parameter's axes exchanged.
    pub fn swapped(self, a: usize, b: usize) -> Piece {
        let exchange = |axis| match axis {
            axis if axis == a => b,
            axis if axis == b => a,
            axis => axis,
        };
        self.renumbered(exchange)
    }

    /// The parameter as one of several, which stand on a new axis.
    pub fn stacked(self, axis: usize, at: u64) -> Piece {
        let mut piece = self.renumbered(|other| if other >= axis { other + 1 } else { other });
        piece.fixed.push((axis, at));
        piece
    }

    /// The parameter at one position of an axis, without that axis; none if it does not stand there.
    pub fn unstacked(self, axis: usize, at: u64) -> Option<Piece> {
        let mut piece = self.select(axis, at, 1, 1)?;
        piece.fixed.retain(|(fixed, _)| *fixed != axis);
        for along in piece.axes.iter_mut().filter(|along| along.runtime == Some(axis)) {
            along.runtime = None;
        }
        Some(piece.renumbered(|other| if other > axis { other - 1 } else { other }))
    }

    fn renumbered(mut self, number: impl Fn(usize) -> usize) -> Piece {
        for along in &mut self.axes {
            along.runtime = along.runtime.map(&number);
        }
        for (fixed, _) in &mut self.fixed {
            *fixed = number(*fixed);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_column_of_a_transposed_slice() {
        // gpt-oss: gate_up_proj is stored as [experts, in, out] = [3, 4, 6], gate in columns 0, 2, 4.
        let piece = Piece::whole(&[3, 4, 6]);
        let gate =
            piece.unstacked(0, 2).and_then(|piece| piece.swapped(0, 1).select(0, 0, 2, 3)).expect("there");
        let shape = Shape::new(&[3, 4, 6]).expect("small");
        let out = Stride { runtime: 0, at: 0, count: 3, stride: 2 };
        let input = Stride { runtime: 1, at: 0, count: 4, stride: 6 };
        assert_eq!(gate.strides(&shape), (2 * 24, vec![out, input]));
        assert_eq!(gate.elements(), 12);
    }

    #[test]
    fn selections_compose() {
        let odd = Piece::whole(&[10]).select(0, 1, 2, 5).expect("there");
        let odd = odd.shifted(0, 5);
        let some = odd.clone().select(0, 6, 1, 2).expect("there");
        assert_eq!(some.axes[0], Along { runtime: Some(0), at: 0, disk: 3, step: 2, count: 2 });
        assert!(odd.select(0, 0, 1, 5).is_none());
    }

    #[test]
    fn slices_of_a_stack() {
        let expert = Piece::whole(&[2, 3]).stacked(0, 7);
        assert_eq!((expert.fixed[0], expert.axes[1].runtime), ((0, 7), Some(2)));
        assert!(expert.clone().unstacked(0, 6).is_none());
        assert!(expert.unstacked(0, 7).expect("there").is_whole(&[2, 3]));
    }
}

//! Packed integers with zero points and with columns out of order, encoded again: codes that stay, and new scales and zero points
//! against a slow way to the same.

use super::kept::{encode_by, encode_in_tiles};
use super::kept_mlx::numbers;
use super::*;

/// Rows, columns, bits, and columns of a group.
type Form = [usize; 4];

/// A stream of fields in words of 32 bits; ones where no field is, to see that they stay.
fn packed(fields: &[u32], bits: usize) -> Vec<u32> {
    let mut words = vec![u32::MAX; (fields.len() * bits).div_ceil(32)];
    for (i, field) in fields.iter().enumerate() {
        let (word, shift) = (&mut words[i * bits / 32], i * bits % 32);
        *word = *word & !(((1 << bits) - 1) << shift) | field << shift;
    }
    words
}

/// A weight of fields and scales row by row, and of zero points and an order where there are any.
fn weight(
    [rows, cols, bits, group]: Form,
    (fields, scales): (&[u32], &[f32]),
    (zeros, order): (Option<&[u32]>, Option<&[i32]>),
) -> (Logical, Vec<u8>) {
    let (groups, mut parts, mut file) = (cols / group, Vec::new(), Vec::new());
    let mut push = |dtype, axes: &[usize], bytes: Vec<u8>| {
        let axes: Vec<u64> = axes.iter().map(|axis| *axis as u64).collect();
        let (offset, shape) = (file.len() as u64, Shape_::new(&axes).unwrap());
        parts.push(TensorRef { file: FileId(0), offset, dtype, shape });
        file.extend(bytes);
    };
    let bytes_of = |words: Vec<u32>| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let codes: Vec<u32> = fields.chunks(cols).flat_map(|row| packed(row, bits)).collect();
    push(Dtype::I32, &[rows, codes.len() / rows], bytes_of(codes));
    push(Dtype::F32, &[rows, groups], scales.iter().flat_map(|scale| scale.to_le_bytes()).collect());
    if let Some(zeros) = zeros {
        let down = |group: usize| {
            packed(&zeros.iter().skip(group).step_by(groups).copied().collect::<Vec<_>>(), bits)
        };
        let columns: Vec<Vec<u32>> = (0..groups).map(down).collect();
        let words = (0..columns[0].len()).flat_map(|word| columns.iter().map(move |column| column[word]));
        push(Dtype::I32, &[columns[0].len(), groups], bytes_of(words.collect()));
    }
    if let Some(order) = order {
        push(Dtype::I32, &[cols], order.iter().flat_map(|group| group.to_le_bytes()).collect());
    }
    let encoding = if bits == 4 { "packed_int4" } else { "packed_int8" };
    let shape = Shape_::new(&[rows as u64, cols as u64]).unwrap();
    let block = (1, group as u64);
    (LogicalFields { encoding: encoding.into(), shape, block, parts, constants: Vec::new() }.into(), file)
}

fn bytes_of<'f>(logical: &Logical, file: &'f [u8], part: usize) -> &'f [u8] {
    let tensor = &logical.parts()[part];
    &file[tensor.offset as usize..][..tensor.bytes() as usize]
}

/// Orders that groups may have: as GPTQ makes them, and one of groups that are not as large as each other, as a file may have.
fn orders(cols: usize, group: usize) -> [Vec<i32>; 2] {
    let groups = (cols / group) as i32;
    [
        (0..cols as i32).map(|col| col * 7 % groups).collect(),
        (0..cols as i32).map(|col| (col * col % 5).min(groups - 1)).collect(),
    ]
}

/// Forms whose rows fill words of zero points and do not.
const FORMS: [Form; 4] = [[16, 64, 4, 16], [5, 64, 4, 32], [19, 48, 8, 16], [3, 40, 8, 40]];
const SIZES: [(u64, u64); 4] = [(1, 1), (2, 64), (9, 16), (1_000, 1_000)];

#[test]
fn packed_codes_come_out_as_they_went_in() {
    for form @ [rows, cols, bits, group] in FORMS {
        let most = (1u32 << bits) - 1;
        let fields: Vec<u32> =
            (0..(rows * cols) as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 9 & most).collect();
        let count = rows * cols / group;
        let zeros: Vec<u32> = (0..count as u32).map(|i| (i * 37 + 3) & most).collect();
        let scales: Vec<f32> = (0..count).map(|i| 0.0137 * (i as f32 + 1.3)).collect();
        let [even, uneven] = orders(cols, group);
        for (zeros, order) in [Some(&zeros[..]), None]
            .into_iter()
            .flat_map(|zeros| [None, Some(&even[..]), Some(&uneven)].map(|order| (zeros, order)))
        {
            let (logical, file) = weight(form, (&fields, &scales), (zeros, order));
            let encoding = find_encoding(logical.encoding()).unwrap();
            let values = decode_in_tiles(&logical, &file, 1_000, 1_000);
            for part in (0..logical.parts().len()).filter(|part| !encoding.is_kept(&logical, *part)) {
                for size in SIZES {
                    let made = encode_in_tiles(&logical, &file, (&values, part), size).unwrap();
                    let right = bytes_of(&logical, &file, part);
                    let what = format!(
                        "{form:?}, zeros {}, order {order:?}, part {part}, {size:?}",
                        zeros.is_some()
                    );
                    // The bits behind the last code of a row are cleared, as compressed-tensors has them.
                    let words = right.len() / rows / 4;
                    if part == 0 && cols * bits < words * 32 {
                        let ends = made.chunks(words * 4).map(|row| row[row.len() - 1]);
                        assert!(ends.zip(right.chunks(words * 4)).all(|(end, _)| end == 0), "{what}");
                        continue;
                    }
                    assert!(made == right, "{what}");
                    // A group that has no columns keeps its scale and zero point whatever is done to the others.
                    let empty =
                        order.and_then(|order| (0..(cols / group) as i32).find(|of| !order.contains(of)));
                    if let Some(empty) = empty.filter(|_| part == 1) {
                        let made = encode_by(&logical, &file, (&values, 1), (size, true)).unwrap();
                        let at = empty as usize * 4;
                        assert!(made[at..at + 4] == right[at..at + 4] && made != right, "{what}");
                    }
                }
            }
            assert_eq!(
                encoding.is_kept(&logical, logical.parts().len() - 1),
                order.is_some(),
                "the order stays"
            );
        }
    }
}

/// The rule of compressed-tensors, in f64 as far as f32 is rounded to: a scale, a zero point, and codes.
fn made(values: &[f32], bits: usize, has_zero: bool) -> (f32, f64, Vec<f64>) {
    let (half, steps) = (f64::from(1 << (bits - 1)), f64::from((1 << bits) - 1));
    let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    let range =
        if has_zero { f64::from(high - low) / steps } else { f64::from(low.abs().max(high)) / (steps / 2.0) };
    let scale = range as f32;
    let zero = if has_zero { (-half - f64::from(low / scale)) as f32 } else { 0.0 };
    let zero = f64::from(zero).clamp(-half, half - 1.0).round_ties_even();
    let code = |x: &f32| f64::from(x / scale + zero as f32).clamp(-half, half - 1.0).round_ties_even();
    (scale, zero, values.iter().map(code).collect())
}

#[test]
fn packed_scales_and_zero_points_are_made_by_the_rule() {
    for form @ [rows, cols, bits, group] in FORMS {
        let (count, half) = (rows * cols / group, 1 << (bits - 1));
        let (fields, scales, zeros) = (vec![half; rows * cols], vec![1e-30f32; count], vec![half; count]);
        // Without groups of zeros, which keep what they have; a row of no sign but one, and one of the other.
        let one_sign = |(i, x): (usize, f32)| match i / cols {
            1 => 1.5 + x.abs(),
            2 => -1.5 - x.abs(),
            _ if x == 0.0 => 0.25,
            _ => x,
        };
        let values: Vec<f32> = numbers(5, rows * cols, 1).into_iter().enumerate().map(one_sign).collect();
        let [even, _] = orders(cols, group);
        let in_order: Vec<i32> = (0..cols).map(|col| (col / group) as i32).collect();
        for (has_zero, has_order, fresh) in (0..8).map(|i| (i & 1 == 1, i & 2 == 2, i & 4 == 4)) {
            let order = has_order.then_some(&even[..]);
            let (logical, file) = weight(form, (&fields, &scales), (has_zero.then_some(&zeros[..]), order));
            let encode = |part| encode_by(&logical, &file, (&values, part), ((1, 16), fresh)).unwrap();
            let (codes, scales) = (encode(0), encode(1));
            let words =
                codes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect::<Vec<_>>();
            let field = |row: usize, col: usize| {
                words[row * words.len() / rows + col * bits / 32] >> (col * bits % 32) & ((1 << bits) - 1)
            };
            let zeros = has_zero.then(|| encode(2));
            for (row, of) in (0..rows).flat_map(|row| (0..cols / group).map(move |of| (row, of))) {
                let columns: Vec<usize> =
                    (0..cols).filter(|col| order.unwrap_or(&in_order)[*col] == of as i32).collect();
                let of_group: Vec<f32> = columns.iter().map(|col| values[row * cols + col]).collect();
                let (scale, zero, right) = made(&of_group, bits, has_zero);
                let what = format!("{form:?}, zeros {has_zero}, order {has_order}, row {row}, group {of}");
                assert_eq!(scales[(row * cols / group + of) * 4..][..4], scale.to_le_bytes(), "{what}");
                if let Some(zeros) = &zeros {
                    let at = (row * bits / 32 * (cols / group) + of) * 4;
                    let word = u32::from_le_bytes(*zeros[at..].first_chunk().unwrap());
                    let field = word >> (row * bits % 32) & ((1 << bits) - 1);
                    assert_eq!(f64::from(field) - f64::from(half), zero, "{what}");
                }
                for (col, code) in columns.into_iter().zip(right) {
                    assert_eq!(f64::from(field(row, col)) - f64::from(half), code, "{what}, column {col}");
                }
            }
        }
    }
}

/// One value that does not fit changes the scale and the zero point of its group in its row, and no other field of the word.
#[test]
fn a_new_zero_point_changes_one_field() {
    let form @ [rows, cols, bits, group] = FORMS[0];
    let count = rows * cols / group;
    let fields: Vec<u32> = (0..(rows * cols) as u32).map(|i| i % 16).collect();
    let (scales, zeros) = (vec![0.5; count], vec![6u32; count]);
    let (logical, file) = weight(form, (&fields, &scales), (Some(&zeros), None));
    let mut values = decode_in_tiles(&logical, &file, 1_000, 1_000);
    values[9 * cols + 2 * group + 1] = -30.0;
    let made = encode_in_tiles(&logical, &file, (&values, 2), (8, 16)).unwrap();
    // The least is the first code: 30 of steps of (30 + 4.5) / 15 below 0.
    let differ =
        made.iter().zip(bytes_of(&logical, &file, 2)).enumerate().filter(|(_, (new, old))| new != old);
    let at = (9 * bits / 32 * (cols / group) + 2) * 4;
    assert_eq!(differ.map(|(i, (new, old))| (i, *new, *old)).collect::<Vec<_>>(), [(at, 0xd6, 0x66)]);
}

#[test]
fn columns_of_no_group_are_said() {
    let form @ [rows, cols, _, group] = FORMS[0];
    let (fields, scales) = (vec![8; rows * cols], vec![0.5; rows * cols / group]);
    for wrong in [-1, 4, i32::MIN] {
        let [mut order, _] = orders(cols, group);
        order[17] = wrong;
        let (logical, file) = weight(form, (&fields, &scales), (None, Some(&order)));
        assert!(encode_in_tiles(&logical, &file, (&vec![0.0; rows * cols], 0), (1, 64)).is_none(), "{wrong}");
    }
}

/// compressed-tensors rounds when the zero point is added, so that halves go to the even code.
#[test]
fn halves_are_rounded_behind_zero_points() {
    let (logical, file) = weight([1, 8, 4, 8], (&[8; 8], &[0.5]), (Some(&[9]), None));
    let values = [1.25, 1.75, -0.25, -0.75, 0.0, 0.5, 1.0, -1.0];
    let made = encode_in_tiles(&logical, &file, (&values, 0), (1, 8)).unwrap();
    // 3.5, 4.5, 0.5, −0.5, 1, 2, 3, −1 and eight each.
    assert_eq!(made, packed(&[12, 12, 8, 8, 9, 10, 11, 7], 4)[0].to_le_bytes());
}

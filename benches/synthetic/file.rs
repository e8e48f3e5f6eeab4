//! One safetensors file: header, then the tensors, streamed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::{Map, json};

use super::values::Source;
use super::{Result, Tensor};

/// Writes a file of `tensors` in the order the safetensors library gives them (wide types first, then by name). Without
/// a source of values the file only gets its length, and reads as zeros.
pub(super) fn write(path: &Path, tensors: &[&Tensor], source: Option<&mut Source>) -> Result<()> {
    let mut order = tensors.to_vec();
    order.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(&order)?;
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    match source {
        None => {
            let data: u64 = order.iter().map(|tensor| tensor.bytes()).sum();
            file.set_len(8 + header.len() as u64 + data)?;
        }
        Some(source) => {
            let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
            for tensor in order {
                source.write(tensor, &mut out)?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

/// The header's JSON, padded with spaces to a multiple of eight bytes.
fn header(order: &[&Tensor]) -> Result<Vec<u8>> {
    let mut map = Map::new();
    map.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut start = 0;
    for tensor in order {
        let end = start + usize::try_from(tensor.bytes())?;
        let info =
            TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
        map.insert(tensor.name.clone(), serde_json::to_value(info)?);
        start = end;
    }
    let mut bytes = serde_json::to_vec(&map)?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

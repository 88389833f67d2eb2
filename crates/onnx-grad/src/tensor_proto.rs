//! Conversion of constants between the ONNX message and [`Tensor`].

use prost::bytes::Bytes;

use half::{bf16, f16};

use crate::external::ExternalFiles;
use crate::proto::{DataLocation, DataType, TensorProto};
use crate::{ElementType, Error, Result, Tensor, TensorData, check};

/// The type that elements of the ONNX type `code` have in a graph.
pub(crate) fn element_type(code: i32) -> Result<ElementType, String> {
    match DataType::try_from(code) {
        Ok(DataType::Float | DataType::Float16 | DataType::Bfloat16) => Ok(ElementType::F32),
        Ok(DataType::Double) => Ok(ElementType::F64),
        Ok(DataType::Int32) => Ok(ElementType::I32),
        Ok(DataType::Bool) => Ok(ElementType::Bool),
        Ok(
            DataType::Int64
            | DataType::Int8
            | DataType::Uint8
            | DataType::Int16
            | DataType::Uint16
            | DataType::Uint32
            | DataType::Uint64,
        ) => Ok(ElementType::I64),
        _ => Err(format!("has elements of type {}, which is not supported", type_name(code))),
    }
}

/// Whether inputs of the ONNX type `code` are the bytes of an image, which a graph takes as float32.
pub(crate) fn is_image_type(code: i32) -> bool {
    code == DataType::Uint8 as i32
}

/// The ONNX type of `element`.
pub(crate) fn data_type(element: ElementType) -> DataType {
    match element {
        ElementType::F32 => DataType::Float,
        ElementType::F64 => DataType::Double,
        ElementType::I64 => DataType::Int64,
        ElementType::I32 => DataType::Int32,
        ElementType::Bool => DataType::Bool,
    }
}

/// What the ONNX type `code` is called: `float32`, `int4`.
pub(crate) fn type_name(code: i32) -> String {
    match DataType::try_from(code) {
        Ok(DataType::Float) => "float32".to_owned(),
        Ok(DataType::Double) => "float64".to_owned(),
        Ok(other) => format!("{other:?}").to_lowercase(),
        Err(_) => format!("number {code}"),
    }
}

/// The constant that `proto` stands for; `name` is what messages call it.
pub(crate) fn read(proto: &TensorProto, name: &str, files: &ExternalFiles) -> Result<Tensor> {
    let refuse = |problem: String| Error::value(name, problem);
    let element = element_type(proto.data_type.unwrap_or_default()).map_err(refuse)?;
    let shape = check::shape(&proto.dims).map_err(refuse)?;
    let len = shape.iter().product();
    if proto.segment.is_some() {
        return Err(refuse("is only a segment of a tensor, which is not supported".to_owned()));
    }
    let raw = match proto.data_location() {
        DataLocation::External => Some(files.read(proto, len * byte_width(proto.data_type())).map_err(refuse)?),
        DataLocation::Default => proto.raw_data.clone().filter(|bytes| !bytes.is_empty()),
    };
    let data = elements(proto, raw.as_deref(), len, element).map_err(refuse)?;
    Ok(Tensor::new(shape, data))
}

/// The message for `tensor`, with its elements in `raw_data`.
pub(crate) fn write(tensor: &Tensor, name: &str) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: tensor.shape().iter().map(|&dim| dim as i64).collect(),
        data_type: Some(data_type(tensor.element()) as i32),
        raw_data: Some(raw_bytes(tensor.data())),
        ..TensorProto::default()
    }
}

/// Gives `proto` the elements of `tensor`, which has the same shape, in the type and the encoding that it has.
pub(crate) fn replace(proto: &mut TensorProto, tensor: &Tensor) -> Result<(), String> {
    let shape: Vec<i64> = tensor.shape().iter().map(|&dim| dim as i64).collect();
    if shape != proto.dims {
        return Err(format!("has the shape {:?} and cannot be replaced by one of shape {shape:?}", proto.dims));
    }
    if !tensor.element().is_float() {
        return Err(format!("cannot be replaced by elements of type {}", tensor.element()));
    }
    let values = tensor.to_f64();
    let single =
        || -> Vec<f32> { tensor.as_f32().map_or_else(|| values.iter().map(|&v| v as f32).collect(), <[f32]>::to_vec) };
    let half_bits: Vec<u16> = match proto.data_type() {
        DataType::Float16 => values.iter().map(|&v| f16::from_f64(v).to_bits()).collect(),
        DataType::Bfloat16 => values.iter().map(|&v| bf16::from_f64(v).to_bits()).collect(),
        DataType::Float | DataType::Double => Vec::new(),
        other => return Err(format!("has elements of type {other:?} and not of a floating-point type")),
    };
    let typed = [proto.float_data.len(), proto.double_data.len(), proto.int32_data.len()].iter().any(|&len| len > 0);
    match (proto.data_type(), typed) {
        (DataType::Float, true) => proto.float_data = single(),
        (DataType::Double, true) => proto.double_data = values,
        (_, true) => proto.int32_data = half_bits.iter().map(|&bits| i32::from(bits)).collect(),
        (DataType::Float, false) => proto.raw_data = Some(little_endian(&single(), f32::to_le_bytes)),
        (DataType::Double, false) => proto.raw_data = Some(little_endian(&values, f64::to_le_bytes)),
        (_, false) => proto.raw_data = Some(little_endian(&half_bits, u16::to_le_bytes)),
    }
    if proto.data_location() == DataLocation::External {
        proto.data_location = None;
        proto.external_data.clear();
    }
    Ok(())
}

/// Moves the elements of `proto` from another file, if that is where they are, into it.
pub(crate) fn take_in(proto: &mut TensorProto, files: &ExternalFiles) -> Result<(), String> {
    if proto.data_location() == DataLocation::External {
        element_type(proto.data_type.unwrap_or_default())?;
        let len: usize = check::shape(&proto.dims)?.iter().product();
        proto.raw_data = Some(files.read(proto, len * byte_width(proto.data_type()))?);
        proto.data_location = None;
        proto.external_data.clear();
    }
    Ok(())
}

/// The bytes that one element takes in `raw_data` or an external file.
fn byte_width(data_type: DataType) -> usize {
    match data_type {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        _ => 1,
    }
}

fn elements(proto: &TensorProto, raw: Option<&[u8]>, len: usize, element: ElementType) -> Result<TensorData, String> {
    let narrow = &proto.int32_data;
    Ok(match (element, proto.data_type()) {
        (ElementType::F32, DataType::Float16) => TensorData::F32(decode(
            raw,
            narrow,
            len,
            |b| f16::from_le_bytes(b).to_f32(),
            |v| f16::from_bits(v as u16).to_f32(),
        )?),
        (ElementType::F32, DataType::Bfloat16) => TensorData::F32(decode(
            raw,
            narrow,
            len,
            |b| bf16::from_le_bytes(b).to_f32(),
            |v| bf16::from_bits(v as u16).to_f32(),
        )?),
        (ElementType::F32, _) => TensorData::F32(decode(raw, &proto.float_data, len, f32::from_le_bytes, |v| v)?),
        (ElementType::F64, _) => TensorData::F64(decode(raw, &proto.double_data, len, f64::from_le_bytes, |v| v)?),
        (ElementType::I32, _) => TensorData::I32(decode(raw, narrow, len, i32::from_le_bytes, |v| v)?),
        (ElementType::Bool, _) => TensorData::Bool(decode(raw, narrow, len, |[b]| b != 0, |v| v != 0)?),
        (ElementType::I64, DataType::Int8) => {
            TensorData::I64(decode(raw, narrow, len, |b| i64::from(i8::from_le_bytes(b)), i64::from)?)
        }
        (ElementType::I64, DataType::Uint8) => {
            TensorData::I64(decode(raw, narrow, len, |[b]| i64::from(b), i64::from)?)
        }
        (ElementType::I64, DataType::Int16) => {
            TensorData::I64(decode(raw, narrow, len, |b| i64::from(i16::from_le_bytes(b)), i64::from)?)
        }
        (ElementType::I64, DataType::Uint16) => {
            TensorData::I64(decode(raw, narrow, len, |b| i64::from(u16::from_le_bytes(b)), i64::from)?)
        }
        (ElementType::I64, DataType::Uint32) => TensorData::I64(decode(
            raw,
            &proto.uint64_data,
            len,
            |b| i64::from(u32::from_le_bytes(b)),
            |v| v as u32 as i64,
        )?),
        (ElementType::I64, DataType::Uint64) => {
            let unsigned = decode(raw, &proto.uint64_data, len, u64::from_le_bytes, |v| v)?;
            let signed: Result<_, _> = unsigned.into_iter().map(i64::try_from).collect();
            TensorData::I64(signed.map_err(|_| "holds an integer that does not fit into int64".to_owned())?)
        }
        (ElementType::I64, _) => TensorData::I64(decode(raw, &proto.int64_data, len, i64::from_le_bytes, |v| v)?),
    })
}

/// `len` elements from the little-endian bytes `raw` or, where there are none, from the repeated field `typed`.
fn decode<const WIDTH: usize, T: Copy, U>(
    raw: Option<&[u8]>,
    typed: &[T],
    len: usize,
    from_bytes: impl Fn([u8; WIDTH]) -> U,
    from_typed: impl Fn(T) -> U,
) -> Result<Vec<U>, String> {
    match raw {
        Some(bytes) if bytes.len() == len * WIDTH => {
            Ok(bytes.as_chunks::<WIDTH>().0.iter().map(|&chunk| from_bytes(chunk)).collect())
        }
        Some(bytes) => {
            Err(format!("should have {} bytes of data for its {len} elements and has {}", len * WIDTH, bytes.len()))
        }
        None if typed.len() == len => Ok(typed.iter().map(|&value| from_typed(value)).collect()),
        None => Err(format!("should have {len} elements and has {}", typed.len())),
    }
}

fn raw_bytes(data: &TensorData) -> Bytes {
    match data {
        TensorData::F32(values) => little_endian(values, f32::to_le_bytes),
        TensorData::F64(values) => little_endian(values, f64::to_le_bytes),
        TensorData::I64(values) => little_endian(values, i64::to_le_bytes),
        TensorData::I32(values) => little_endian(values, i32::to_le_bytes),
        TensorData::Bool(values) => little_endian(values, |value| [u8::from(value)]),
    }
}

fn little_endian<const WIDTH: usize, T: Copy>(values: &[T], to_bytes: impl Fn(T) -> [u8; WIDTH]) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * WIDTH);
    values.iter().for_each(|&value| bytes.extend_from_slice(&to_bytes(value)));
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(proto: TensorProto, data_type: DataType, dims: &[i64]) -> Result<Tensor, String> {
        let proto = TensorProto { data_type: Some(data_type as i32), dims: dims.to_vec(), ..proto };
        read(&proto, "t", &ExternalFiles::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_encodings_of_every_type_are_read() {
        let raw =
            |bytes: &'static [u8]| TensorProto { raw_data: Some(Bytes::from_static(bytes)), ..TensorProto::default() };
        let narrow = |values: &[i32]| TensorProto { int32_data: values.to_vec(), ..TensorProto::default() };
        let unsigned = |values: &[u64]| TensorProto { uint64_data: values.to_vec(), ..TensorProto::default() };
        let cases = [
            (DataType::Float, raw(&[0, 0, 0x80, 0xbf]), ElementType::F32, -1.0),
            (DataType::Float, TensorProto { float_data: vec![-1.0], ..TensorProto::default() }, ElementType::F32, -1.0),
            (DataType::Double, raw(&[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]), ElementType::F64, 1.5),
            (DataType::Double, TensorProto { double_data: vec![1.5], ..TensorProto::default() }, ElementType::F64, 1.5),
            (DataType::Float16, raw(&[0, 0xc0]), ElementType::F32, -2.0),
            (DataType::Float16, narrow(&[0xc000]), ElementType::F32, -2.0),
            (DataType::Bfloat16, raw(&[0x80, 0x3f]), ElementType::F32, 1.0),
            (DataType::Bfloat16, narrow(&[0x3f80]), ElementType::F32, 1.0),
            (DataType::Bool, raw(&[1]), ElementType::Bool, 1.0),
            (DataType::Bool, narrow(&[1]), ElementType::Bool, 1.0),
            (DataType::Int8, raw(&[0xff]), ElementType::I64, -1.0),
            (DataType::Int8, narrow(&[-1]), ElementType::I64, -1.0),
            (DataType::Uint8, raw(&[0xff]), ElementType::I64, 255.0),
            (DataType::Int16, raw(&[0xfe, 0xff]), ElementType::I64, -2.0),
            (DataType::Uint16, raw(&[0xfe, 0xff]), ElementType::I64, 65534.0),
            (DataType::Int32, raw(&[0xfe, 0xff, 0xff, 0xff]), ElementType::I32, -2.0),
            (DataType::Uint32, raw(&[0, 0, 0, 0x80]), ElementType::I64, 2147483648.0),
            (DataType::Uint32, unsigned(&[2147483648]), ElementType::I64, 2147483648.0),
            (DataType::Int64, TensorProto { int64_data: vec![-3], ..TensorProto::default() }, ElementType::I64, -3.0),
            (DataType::Uint64, unsigned(&[7]), ElementType::I64, 7.0),
        ];
        for (data_type, proto, element, value) in cases {
            assert_eq!(read_one(proto, data_type, &[1]), Ok(Tensor::floats(element, [1], &[value])), "{data_type:?}");
        }
    }

    #[test]
    fn data_that_does_not_fill_its_shape_is_refused() {
        let raw = TensorProto { raw_data: Some(Bytes::from_static(&[0; 8])), ..TensorProto::default() };
        let typed = TensorProto { float_data: vec![0.0; 2], ..TensorProto::default() };
        let large = TensorProto { uint64_data: vec![u64::MAX], ..TensorProto::default() };
        let cases = [
            (&raw, DataType::Float, &[3][..], "should have 12 bytes of data for its 3 elements and has 8"),
            (&typed, DataType::Float, &[3], "should have 3 elements and has 2"),
            (&typed, DataType::Float, &[-1, -2], "has an extent of -1"),
            (&raw, DataType::Float, &[1 << 40], "has the shape [1099511627776], and no value may have more than"),
            (&raw, DataType::Int4, &[16], "has elements of type int4, which is not supported"),
            (&large, DataType::Uint64, &[1], "holds an integer that does not fit into int64"),
        ];
        for (proto, data_type, dims, expected) in cases {
            let error = read_one(proto.clone(), data_type, dims).unwrap_err();
            assert!(error.starts_with(&format!("value `t`: {expected}")), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let values = [-1.0, 0.0, 2.0];
        for element in [ElementType::F32, ElementType::F64, ElementType::I64, ElementType::I32, ElementType::Bool] {
            let tensor = Tensor::floats(element, [3, 1], &values);
            assert_eq!(read(&write(&tensor, "t"), "t", &ExternalFiles::default()), Ok(tensor));
        }
    }
}

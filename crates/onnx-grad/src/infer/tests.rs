use super::*;
use crate::{Attributes, Tensor};

/// Input types by letter, or constants.
enum In {
    F(&'static [usize]),
    Of(crate::ElementType, &'static [usize]),
    Ints(&'static [i64]),
    Floats(&'static [f64]),
    None,
}
use crate::ElementType::{Bool, F32, I64};
use In::{F, Floats, Ints, Of};

fn infer_one(op: &str, inputs: &[In], attributes: impl Into<Attributes>) -> Result<Vec<ValueType>> {
    infer_many(op, inputs, attributes, 1)
}

fn infer_many(op: &str, inputs: &[In], attributes: impl Into<Attributes>, outputs: usize) -> Result<Vec<ValueType>> {
    let mut graph = Graph::new();
    let mut names = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("in{i}");
        match input {
            F(shape) => graph.add_input(&name, ValueType::new(F32, *shape))?,
            Of(element, shape) => graph.add_input(&name, ValueType::new(*element, *shape))?,
            Ints(values) => graph.add_initializer(&name, Tensor::ints(values))?,
            Floats(values) => graph.add_initializer(&name, Tensor::floats(F32, [values.len()], values))?,
            In::None => {}
        }
        names.push(if matches!(input, In::None) { String::new() } else { name });
    }
    let node = Node {
        name: "n".to_owned(),
        op: op.to_owned(),
        inputs: names,
        outputs: (0..outputs).map(|i| format!("out{i}")).collect(),
        attributes: attributes.into(),
    };
    infer(&graph, &node)
}

fn none() -> Attributes {
    Attributes::new()
}

fn ints(pairs: &[(&str, &[i64])]) -> Attributes {
    pairs.iter().fold(none(), |attributes, (name, values)| attributes.with(name, *values))
}

#[test]
fn first_outputs_have_the_shapes_of_the_specification() {
    let same = |mode: &str| none().with("auto_pad", mode).with("strides", &[2i64, 2][..]);
    let cases: Vec<(&str, Vec<In>, Attributes, &[usize])> = vec![
        ("Add", vec![F(&[2, 1, 3]), F(&[4, 1])], none(), &[2, 4, 3]),
        ("Where", vec![Of(Bool, &[3]), F(&[]), F(&[2, 1])], none(), &[2, 3]),
        ("Conv", vec![F(&[1, 3, 8, 9]), F(&[4, 3, 3, 3]), F(&[4])], none(), &[1, 4, 6, 7]),
        ("Conv", vec![F(&[1, 4, 8]), F(&[6, 2, 3])], none().with("group", 2), &[1, 6, 6]),
        ("Conv", vec![F(&[1, 1, 7, 7, 7]), F(&[1, 1, 3, 3, 3])], ints(&[("dilations", &[2, 1, 3])]), &[1, 1, 3, 5, 1]),
        ("Conv", vec![F(&[1, 1, 5, 6]), F(&[1, 1, 3, 3])], same("SAME_UPPER"), &[1, 1, 3, 3]),
        ("ConvTranspose", vec![F(&[1, 3, 4, 4]), F(&[3, 2, 3, 3])], ints(&[("strides", &[2, 2])]), &[1, 2, 9, 9]),
        (
            "ConvTranspose",
            vec![F(&[1, 4, 4]), F(&[4, 2, 3])],
            ints(&[("strides", &[2]), ("output_padding", &[1]), ("pads", &[1, 1])]).with("group", 2),
            &[1, 4, 8],
        ),
        (
            "ConvTranspose",
            vec![F(&[1, 1, 3, 3]), F(&[1, 2, 3, 3])],
            ints(&[("strides", &[3, 2]), ("output_shape", &[8, 7])]),
            &[1, 2, 8, 7],
        ),
        ("ConvTranspose", vec![F(&[1, 1, 3, 3]), F(&[1, 2, 3, 3])], same("SAME_LOWER"), &[1, 2, 6, 6]),
        ("GlobalAveragePool", vec![F(&[2, 3, 4, 5])], none(), &[2, 3, 1, 1]),
        ("Gemm", vec![F(&[3, 2]), F(&[4, 3]), F(&[4])], ints(&[]).with("transA", 1).with("transB", 1), &[2, 4]),
        ("MatMul", vec![F(&[2, 1, 3, 4]), F(&[5, 4, 6])], none(), &[2, 5, 3, 6]),
        ("MatMul", vec![F(&[4]), F(&[5, 4, 6])], none(), &[5, 6]),
        ("MatMul", vec![F(&[5, 3, 4]), F(&[4])], none(), &[5, 3]),
        ("MatMul", vec![F(&[4]), F(&[4])], none(), &[]),
        ("Einsum", vec![F(&[2, 3, 4]), F(&[2, 4, 5])], none().with("equation", "bij, bjk -> bik"), &[2, 3, 5]),
        ("Einsum", vec![F(&[3, 4]), F(&[4, 5])], none().with("equation", "ij,jk"), &[3, 5]),
        ("ReduceMean", vec![F(&[2, 3, 4]), Ints(&[-1, 0])], none().with("keepdims", 0), &[3]),
        ("ReduceSum", vec![F(&[2, 3])], none(), &[1, 1]),
        ("ReduceSum", vec![F(&[2, 3])], none().with("noop_with_empty_axes", 1), &[2, 3]),
        ("ArgMax", vec![F(&[2, 3])], none().with("axis", -1).with("keepdims", 0), &[2]),
        ("Shape", vec![F(&[2, 3, 4])], none().with("start", -2), &[2]),
        ("Shape", vec![F(&[2, 3, 4])], none().with("start", 2).with("end", 1), &[0]),
        ("Reshape", vec![F(&[2, 3, 4]), Ints(&[0, -1])], none(), &[2, 12]),
        ("Reshape", vec![F(&[0, 3]), Ints(&[3, 0])], none().with("allowzero", 1), &[3, 0]),
        ("Reshape", vec![F(&[1]), Ints(&[])], none(), &[]),
        ("Flatten", vec![F(&[2, 3, 4])], none().with("axis", 3), &[24, 1]),
        ("Flatten", vec![F(&[2, 3, 4])], none().with("axis", 0), &[1, 24]),
        ("Squeeze", vec![F(&[1, 2, 1])], none(), &[2]),
        ("Squeeze", vec![F(&[1, 2, 1]), Ints(&[-1])], none(), &[1, 2]),
        ("Unsqueeze", vec![F(&[2]), Ints(&[0, -1])], none(), &[1, 2, 1]),
        ("Expand", vec![F(&[3, 1]), Ints(&[2, 1, 4])], none(), &[2, 3, 4]),
        ("Tile", vec![F(&[2, 3]), Ints(&[2, 0])], none(), &[4, 0]),
        ("Range", vec![Ints(&[10]), Ints(&[-3]), Ints(&[-4])], none(), &[4]),
        ("Range", vec![Floats(&[0.0]), Floats(&[1.0]), Floats(&[0.3])], none(), &[4]),
        ("Transpose", vec![F(&[2, 3, 4])], none(), &[4, 3, 2]),
        ("Transpose", vec![F(&[2, 3, 4])], ints(&[("perm", &[1, 0, 2])]), &[3, 2, 4]),
        ("Concat", vec![F(&[2, 3]), F(&[2, 4])], none().with("axis", -1), &[2, 7]),
        ("DepthToSpace", vec![F(&[1, 8, 2, 3])], none().with("blocksize", 2), &[1, 2, 4, 6]),
        ("SpaceToDepth", vec![F(&[1, 2, 4, 6])], none().with("blocksize", 2), &[1, 8, 2, 3]),
        ("Slice", vec![F(&[10]), Ints(&[-3]), Ints(&[i64::MAX])], none(), &[3]),
        ("Slice", vec![F(&[10, 4]), Ints(&[-1]), Ints(&[i64::MIN]), Ints(&[1]), Ints(&[-3])], none(), &[10, 2]),
        ("Slice", vec![F(&[10]), Ints(&[7]), Ints(&[2]), In::None, Ints(&[1])], none(), &[0]),
        ("Slice", vec![F(&[0]), Ints(&[-1]), Ints(&[i64::MIN]), Ints(&[0]), Ints(&[-1])], none(), &[0]),
        ("Slice", vec![F(&[5]), Ints(&[0]), Ints(&[5]), Ints(&[0]), Ints(&[i64::MAX])], none(), &[1]),
        ("Slice", vec![F(&[5]), Ints(&[4]), Ints(&[-9]), Ints(&[0]), Ints(&[i64::MIN])], none(), &[1]),
        ("Pad", vec![F(&[3, 4]), Ints(&[1, -1, 2, 0])], none(), &[6, 3]),
        ("Pad", vec![F(&[3, 4]), Ints(&[3, 3]), In::None, Ints(&[-1])], none().with("mode", "reflect"), &[3, 10]),
        ("Resize", vec![F(&[1, 1, 5, 5]), In::None, Floats(&[1.0, 1.0, 2.5, 0.5])], none(), &[1, 1, 12, 2]),
        (
            "Resize",
            vec![F(&[1, 1, 5, 5]), In::None, In::None, Ints(&[7, 9])],
            ints(&[("axes", &[2, 3])]),
            &[1, 1, 7, 9],
        ),
        ("Gather", vec![F(&[2, 3, 4]), Of(I64, &[5, 6])], none().with("axis", 1), &[2, 5, 6, 4]),
        ("GatherElements", vec![F(&[2, 3]), Of(I64, &[2, 9])], none().with("axis", 1), &[2, 9]),
        ("GatherND", vec![F(&[2, 3, 4]), Of(I64, &[2, 5, 1])], none().with("batch_dims", 1), &[2, 5, 4]),
        ("ScatterND", vec![F(&[4, 3]), Of(I64, &[2, 1]), F(&[2, 3])], none(), &[4, 3]),
        ("OneHot", vec![Of(I64, &[2, 3]), Ints(&[5]), F(&[2])], none().with("axis", 0), &[5, 2, 3]),
        ("BatchNormalization", vec![F(&[2, 3]), F(&[3]), F(&[3]), F(&[3]), F(&[3])], none(), &[2, 3]),
        ("LayerNormalization", vec![F(&[2, 3, 4]), F(&[4]), F(&[4])], none(), &[2, 3, 4]),
    ];
    for (op, inputs, attributes, expected) in cases {
        let types = infer_one(op, &inputs, attributes.clone()).unwrap();
        assert_eq!(types[0].shape, expected, "{op} {attributes:?}");
    }
}

#[test]
fn pools_round_up_and_pad_as_the_specification_says() {
    struct Case {
        extent: &'static [usize],
        attributes: Attributes,
        expected: usize,
    }
    let attributes = |kernel: i64, stride: i64, pads: [i64; 2]| {
        ints(&[("kernel_shape", &[kernel]), ("strides", &[stride]), ("pads", &pads)])
    };
    let ceil = |attributes: Attributes| attributes.with("ceil_mode", 1);
    let cases = [
        Case { extent: &[1, 1, 5], attributes: attributes(2, 2, [0, 0]), expected: 2 },
        Case { extent: &[1, 1, 5], attributes: ceil(attributes(2, 2, [0, 0])), expected: 3 },
        Case { extent: &[1, 1, 6], attributes: ceil(attributes(3, 2, [0, 0])), expected: 3 },
        // A fourth window would start in the padding after the input.
        Case { extent: &[1, 1, 5], attributes: ceil(attributes(2, 3, [1, 1])), expected: 2 },
        Case { extent: &[1, 1, 4], attributes: ceil(attributes(1, 5, [0, 0])), expected: 1 },
        Case { extent: &[1, 1, 1], attributes: ceil(attributes(2, 2, [0, 0])), expected: 1 },
        Case { extent: &[1, 1, 7], attributes: attributes(3, 2, [0, 0]).with("auto_pad", "SAME_LOWER"), expected: 4 },
        Case { extent: &[1, 1, 8], attributes: ceil(attributes(3, 2, [0, 0])).with("auto_pad", "VALID"), expected: 3 },
        Case { extent: &[1, 1, 9], attributes: attributes(3, 1, [0, 0]).with("dilations", &[3i64][..]), expected: 3 },
    ];
    for Case { extent, attributes, expected } in cases {
        let types = infer_many("MaxPool", &[F(extent)], attributes.clone(), 2).unwrap();
        assert_eq!(types[0].shape, [1, 1, expected], "{extent:?} {attributes:?}");
        assert_eq!(types[1], ValueType::new(I64, [1, 1, expected]));
    }
}

#[test]
fn split_divides_unevenly_at_the_end() {
    let extents = |types: Vec<ValueType>| types.iter().map(|ty| ty.shape[0]).collect::<Vec<_>>();
    assert_eq!(extents(infer_many("Split", &[F(&[7])], none().with("num_outputs", 3), 3).unwrap()), [3, 3, 1]);
    assert_eq!(extents(infer_many("Split", &[F(&[7]), Ints(&[2, 5, 0])], none(), 3).unwrap()), [2, 5, 0]);
    assert!(infer_many("Split", &[F(&[5])], none().with("num_outputs", 4), 4).is_err());
}

#[test]
fn malformed_nodes_are_errors_that_name_them() {
    const HUGE: i64 = i64::MAX;
    let conv = || vec![F(&[1, 3, 8, 8]), F(&[4, 3, 3, 3])];
    let pool = || vec![F(&[1, 3, 8, 8])];
    let deconv = || vec![F(&[1, 4, 8, 8]), F(&[4, 3, 3, 3])];
    let cases: Vec<(&str, Vec<In>, Attributes, &str)> = vec![
        ("Nonsense", vec![], none(), "is not an operator"),
        ("Relu", vec![], none(), "lacks input 0"),
        ("Relu", vec![F(&[1]), F(&[1])], none(), "takes 1 at most"),
        ("Relu", vec![Of(Bool, &[1])], none(), "needs numbers"),
        ("Add", vec![F(&[2]), F(&[3])], none(), "cannot broadcast"),
        ("Add", vec![F(&[2]), Of(I64, &[2])], none(), "beside an input"),
        ("Add", vec![F(&[65536, 1]), F(&[1, 65536])], none(), "too large"),
        ("PRelu", vec![F(&[2]), F(&[2, 2])], none(), "does not broadcast"),
        ("Cast", vec![F(&[2])], none(), "lacks the attribute `to`"),
        ("Cast", vec![F(&[2])], none().with("to", 8), "element type 8"),
        ("Elu", vec![F(&[2])], none().with("alpha", 1), "not a number"),
        ("Max", vec![], none(), "has no inputs"),
        ("Dropout", vec![F(&[2]), In::None, Of(Bool, &[])], none(), "`training_mode`"),
        ("Conv", vec![F(&[1, 3]), F(&[3, 3])], none(), "one to three spatial axes"),
        ("Conv", vec![F(&[1, 3, 8]), F(&[4, 3, 3, 3])], none(), "has weights"),
        ("Conv", conv(), none().with("group", 0), "`group` = 0"),
        ("Conv", conv(), none().with("group", HUGE), "asks for an axis"),
        ("Conv", conv(), none().with("group", 2), "in 2 groups"),
        ("Conv", conv(), ints(&[("strides", &[0, 1])]), "has a 0 in `strides`"),
        ("Conv", conv(), ints(&[("strides", &[1])]), "should have 2 entries"),
        ("Conv", conv(), ints(&[("strides", &[HUGE, 1])]), "beyond 0 to"),
        ("Conv", conv(), ints(&[("dilations", &[-1, 1])]), "beyond 0 to"),
        ("Conv", conv(), ints(&[("dilations", &[9, 1])]), "has a window of 19"),
        ("Conv", conv(), ints(&[("pads", &[1, 1, 1])]), "should have 4 entries"),
        ("Conv", conv(), ints(&[("pads", &[1 << 29; 4])]), "too large"),
        ("Conv", conv(), ints(&[("kernel_shape", &[2, 2])]), "`kernel_shape`"),
        ("Conv", conv(), none().with("auto_pad", "SAME"), "what is supported is NOTSET"),
        ("Conv", conv(), none().with("strides", 1), "not a list of integers"),
        ("ConvTranspose", deconv(), ints(&[("strides", &[1 << 30; 2])]), "asks for an axis"),
        ("ConvTranspose", deconv(), ints(&[("pads", &[9; 4])]), "crops axis"),
        (
            "ConvTranspose",
            deconv(),
            ints(&[("output_shape", &[10, 11])]),
            "wants 11 elements on axis 3, but reaches 10",
        ),
        ("ConvTranspose", deconv(), none().with("group", 3), "3 groups do not divide"),
        ("MaxPool", pool(), none(), "lacks `kernel_shape`"),
        ("MaxPool", pool(), ints(&[("kernel_shape", &[9, 9])]), "has a window of 9"),
        ("MaxPool", pool(), ints(&[("kernel_shape", &[2, 2]), ("pads", &[2, 0, 0, 0])]), "pads by 2 and 0"),
        ("MaxPool", vec![F(&[1, 1, 0])], ints(&[("kernel_shape", &[1])]), "without elements"),
        ("MaxPool", pool(), ints(&[("kernel_shape", &[2, 2])]).with("ceil_mode", 2), "instead of 0 or 1"),
        ("AveragePool", pool(), ints(&[("kernel_shape", &[2, 2]), ("dilations", &[2, 2])]), "`dilations`"),
        ("Gemm", vec![F(&[2, 3]), F(&[2, 3])], none(), "multiplies 2×3 by 2×3"),
        ("Gemm", vec![F(&[2, 3]), F(&[3, 4]), F(&[2])], none(), "does not broadcast"),
        ("MatMul", vec![F(&[]), F(&[2])], none(), "scalar"),
        ("MatMul", vec![F(&[2, 3]), F(&[2, 3])], none(), "multiplies"),
        ("MatMul", vec![F(&[2, 3, 3]), F(&[4, 3, 3])], none(), "leading axes"),
        ("Einsum", vec![F(&[2])], none().with("equation", "i...->i"), "supported are letters"),
        ("Einsum", vec![F(&[2])], none().with("equation", "i->ii"), "repeats"),
        ("Einsum", vec![F(&[2])], none().with("equation", "i->j"), "no input with the axis"),
        ("Softmax", vec![F(&[])], none(), "has axis -1"),
        ("Softmax", vec![F(&[2])], none().with("axis", i64::MIN), "has axis"),
        ("BatchNormalization", vec![F(&[2, 3]), F(&[2])], none(), "for 3 channels"),
        ("LRN", vec![F(&[1, 1, 1])], none(), "lacks the attribute `size`"),
        ("ReduceSum", vec![F(&[2]), Of(I64, &[1])], none(), "only a constant one"),
        ("ReduceSum", vec![F(&[2]), Ints(&[0, -1])], none(), "names axis -1 twice"),
        ("ReduceMax", vec![F(&[0])], none(), "without elements"),
        ("ArgMax", vec![F(&[0])], none(), "no elements"),
        ("CumSum", vec![F(&[2]), Ints(&[1])], none(), "has axis 1"),
        ("Reshape", vec![F(&[2]), Of(I64, &[1])], none(), "only a constant one"),
        ("Reshape", vec![F(&[2]), Ints(&[-1, -1])], none(), "cannot give"),
        ("Reshape", vec![F(&[2]), Ints(&[HUGE, 2])], none(), "cannot give"),
        ("Reshape", vec![F(&[2]), Ints(&[1 << 30; 5])], none(), "cannot give"),
        ("Reshape", vec![F(&[2]), Ints(&[2, 0])], none(), "cannot give"),
        ("Reshape", vec![F(&[0]), Ints(&[0, -1])], none(), "cannot give"),
        ("Reshape", vec![F(&[2]), Floats(&[2.0])], none(), "instead of integers"),
        ("Reshape", vec![F(&[1]), Ints(&[1; 99])], none(), "too large"),
        ("Flatten", vec![F(&[2])], none().with("axis", 2), "has axis 2"),
        ("Squeeze", vec![F(&[2]), Ints(&[0])], none(), "has not one element"),
        ("Unsqueeze", vec![F(&[2]), Ints(&[5])], none(), "has axis 5"),
        ("Unsqueeze", vec![F(&[2]), Ints(&[0; 99])], none(), "100 axes"),
        ("Expand", vec![F(&[2]), Ints(&[-1])], none(), "asks for an axis"),
        ("Expand", vec![F(&[2]), Ints(&[3])], none(), "cannot broadcast"),
        ("Tile", vec![F(&[2, 2]), Ints(&[1 << 30, 1 << 30])], none(), "too large"),
        ("ConstantOfShape", vec![Ints(&[1 << 20, 1 << 20])], none(), "too large"),
        ("Range", vec![Ints(&[0]), Ints(&[HUGE]), Ints(&[1])], none(), "makes"),
        ("Range", vec![Ints(&[i64::MIN]), Ints(&[HUGE]), Ints(&[0])], none(), "`delta` of 0"),
        ("Range", vec![Floats(&[0.0]), Floats(&[1.0]), Floats(&[0.0])], none(), "counts from"),
        ("Transpose", vec![F(&[2, 3])], ints(&[("perm", &[0, 0])]), "twice"),
        ("Transpose", vec![F(&[2, 3])], ints(&[("perm", &[0])]), "`perm`"),
        ("Concat", vec![F(&[2]), F(&[2])], none(), "lacks the attribute `axis`"),
        ("Concat", vec![F(&[2, 3]), F(&[3, 3])], none().with("axis", 1), "joins"),
        ("DepthToSpace", vec![F(&[1, 3, 1, 1])], none().with("blocksize", 2), "divides 3 channels"),
        ("DepthToSpace", vec![F(&[1, 3, 1, 1])], none().with("blocksize", 0), "`blocksize` = 0"),
        ("SpaceToDepth", vec![F(&[1, 3, 0, 0])], none().with("blocksize", (1 << 31) - 1), "too large"),
        ("Slice", vec![F(&[2]), Ints(&[0]), Ints(&[1]), Ints(&[0]), Ints(&[0])], none(), "step of 0"),
        ("Slice", vec![F(&[2]), Ints(&[0, 0]), Ints(&[1])], none(), "unequal length"),
        ("Slice", vec![F(&[2]), Ints(&[0, 0]), Ints(&[1, 1])], none(), "slices 2 axes"),
        ("Split", vec![F(&[2]), Ints(&[3])], none(), "splits 2 elements"),
        ("Split", vec![F(&[2])], none(), "lacks `split`"),
        ("Pad", vec![F(&[2]), Ints(&[HUGE, HUGE])], none(), "beyond"),
        ("Pad", vec![F(&[2]), Ints(&[-2, -1])], none(), "removes more"),
        ("Pad", vec![F(&[2]), Ints(&[2, 0])], none().with("mode", "reflect"), "reflects 2"),
        ("Pad", vec![F(&[0]), Ints(&[2, 0])], none().with("mode", "edge"), "no elements"),
        ("Resize", vec![F(&[1])], none(), "either `scales` or `sizes`"),
        ("Resize", vec![F(&[1]), In::None, Floats(&[f64::NAN])], none(), "scale of NaN"),
        ("Resize", vec![F(&[1]), In::None, Floats(&[1e30])], none(), "makes"),
        ("Resize", vec![F(&[4]), In::None, Floats(&[0.1])], none(), "to 0"),
        ("Gather", vec![F(&[2]), F(&[1])], none(), "integer input"),
        ("GatherND", vec![F(&[2]), Of(I64, &[2])], none(), "has indices"),
        ("GatherND", vec![F(&[2]), Of(I64, &[1])], none().with("batch_dims", -1), "asks for an axis"),
        ("ScatterND", vec![F(&[2]), Of(I64, &[1, 1]), F(&[2])], none(), "has updates"),
        ("OneHot", vec![Of(I64, &[2]), Ints(&[1 << 31]), F(&[2])], none(), "asks for an axis"),
    ];
    let mut wrong = Vec::new();
    for (op, inputs, attributes, expected) in cases {
        let message = match infer_one(op, &inputs, attributes.clone()) {
            Ok(types) => format!("{op} {attributes:?} was accepted: {types:?}"),
            Err(error) => error.to_string(),
        };
        if !message.starts_with(&format!("node `n` ({op}): ")) || !message.contains(expected) {
            wrong.push(format!("{message} (expected: {expected})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let relu = infer_many("Relu", &[F(&[1])], none(), 2).unwrap_err();
    assert!(relu.to_string().contains("has 2 outputs where there are 1 at most"), "{relu}");
}

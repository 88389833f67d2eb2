//! What a graph takes of memory when it runs.

use std::collections::HashMap;

use crate::{ElementType, Graph, Result, ValueType};

impl Graph {
    /// About how many bytes an engine takes for the graph: its constants twice, since engines keep a copy in an order of
    /// their own, and the values that are alive at one time where there are most of them.
    ///
    /// # Errors
    /// If a value is not in the graph, which does not happen to one that was built.
    pub fn memory(&self) -> Result<u64> {
        let constants: u64 = self.initializers().values().map(|tensor| bytes(&tensor.value_type())).sum();
        let mut last_read: HashMap<&str, usize> = HashMap::new();
        for (i, node) in self.nodes().iter().enumerate() {
            last_read.extend(node.inputs.iter().map(|input| (input.as_str(), i)));
        }
        last_read.extend(self.outputs().iter().map(|output| (output.as_str(), usize::MAX)));
        let inputs = self.inputs().iter().map(|input| Ok(bytes(self.value_type(input)?))).sum::<Result<u64>>()?;
        let (mut alive, mut most) = (inputs, inputs);
        let mut ends: HashMap<usize, u64> = HashMap::new();
        for (i, node) in self.nodes().iter().enumerate() {
            for output in node.outputs.iter().filter(|output| !output.is_empty()) {
                let bytes = bytes(self.value_type(output)?);
                alive += bytes;
                *ends.entry(last_read.get(output.as_str()).copied().unwrap_or(i)).or_default() += bytes;
            }
            most = most.max(alive);
            alive -= ends.remove(&i).unwrap_or_default();
        }
        Ok(2 * constants + most)
    }
}

fn bytes(ty: &ValueType) -> u64 {
    let each = match ty.element {
        ElementType::F64 | ElementType::I64 => 8,
        ElementType::F32 | ElementType::I32 => 4,
        ElementType::Bool => 1,
    };
    each * ty.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn constants_count_twice_and_values_while_they_are_needed() {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [100])).unwrap();
        let weight = graph.constant(Tensor::floats(ElementType::F32, [100], &[0.5; 100]));
        let mut value = graph.apply("Mul", &["x", &weight], ()).unwrap();
        for _ in 0..9 {
            value = graph.apply("Sin", &[&value], ()).unwrap();
        }
        graph.add_output(&value).unwrap();
        // The weight and its copy, x, and two values at a time of the chain.
        assert_eq!(graph.memory().unwrap(), (2 + 1 + 2) * 400);
        let sum = graph.apply("Add", &[&value, "x"], ()).unwrap();
        graph.add_output(&sum).unwrap();
        assert_eq!(graph.memory().unwrap(), (2 + 1 + 2) * 400);
    }
}

use std::collections::HashSet;

use crate::{Error, Graph, Result};

impl Graph {
    /// The part of the graph from the value called `value`, which becomes the only input, to the outputs.
    ///
    /// # Errors
    /// If the graph has no such value, or an output depends on more than on it.
    pub fn after(&self, value: &str) -> Result<Graph> {
        let mut part = Graph::new();
        part.add_input(value, self.value_type(value)?.clone())?;
        for (name, tensor) in self.initializers().iter().filter(|(name, _)| *name != value) {
            part.add_initializer(name, tensor.clone())?;
        }
        let mut known: HashSet<&str> = self.initializers().keys().map(String::as_str).collect();
        known.insert(value);
        for node in self.nodes() {
            let follows = node.inputs.iter().all(|name| name.is_empty() || known.contains(name.as_str()));
            if follows && !node.outputs.iter().any(|output| output == value) {
                known.extend(node.outputs.iter().map(String::as_str));
                part.push(node.clone())?;
            }
        }
        for output in self.outputs() {
            if !known.contains(output.as_str()) {
                return Err(Error::value(output, format!("depends on more than on `{value}`")));
            }
            part.add_output(output)?;
        }
        Ok(part.without_dead_nodes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ElementType, Tensor, ValueType};

    /// y = Relu(x) * 2, z = y + x
    fn graph() -> (Graph, String, String, String) {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2])).unwrap();
        let positive = graph.apply("Relu", &["x"], ()).unwrap();
        let two = graph.constant(Tensor::scalar(ElementType::F32, 2.0));
        let y = graph.apply("Mul", &[&positive, &two], ()).unwrap();
        let z = graph.apply("Add", &[&y, "x"], ()).unwrap();
        (graph, positive, y, z)
    }

    #[test]
    fn what_comes_after_a_value_has_it_as_its_input() {
        let (mut graph, positive, y, _) = graph();
        graph.set_outputs(&[&y]).unwrap();
        let part = graph.after(&positive).unwrap();
        assert_eq!((part.inputs(), part.outputs()), (&[positive][..], &[y][..]));
        assert_eq!(part.nodes().iter().map(|node| &*node.op).collect::<Vec<_>>(), ["Mul"]);
    }

    #[test]
    fn an_output_that_needs_more_is_an_error() {
        let (mut graph, positive, _, z) = graph();
        graph.set_outputs(&[&z]).unwrap();
        assert!(graph.after(&positive).unwrap_err().to_string().contains("depends on more than on `Relu"));
        assert!(graph.after("missing").is_err());
    }
}

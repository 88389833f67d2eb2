//! The order in which nodes can run.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::check::{node_error, subgraphs};
use crate::proto::{GraphProto, NodeProto};
use crate::{Error, Result};

/// The nodes that the graph's outputs need, each after those whose outputs it reads; a graph
/// that is in order already keeps its order. `given` says which values exist beforehand.
///
/// # Errors
/// If a value is read that nothing defines, or nodes wait for each other in a circle.
pub(crate) fn live_nodes(graph: &GraphProto, given: impl Fn(&str) -> bool) -> Result<Vec<&NodeProto>> {
    let producers: HashMap<&str, usize> = (graph.node.iter().enumerate())
        .flat_map(|(i, node)| node.output.iter().map(move |output| (output.as_str(), i)))
        .filter(|(output, _)| !output.is_empty())
        .collect();
    for output in &graph.output {
        if !producers.contains_key(output.name()) && !given(output.name()) {
            return Err(Error::value(output.name(), "is an output of the graph, but nothing defines it"));
        }
    }
    let live = reachable(graph, &producers);
    let mut waiting_for = vec![0usize; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for &i in &live {
        let node = &graph.node[i];
        for name in reads(node) {
            match producers.get(name) {
                Some(&producer) => {
                    readers[producer].push(i);
                    waiting_for[i] += 1;
                }
                None if given(name) => {}
                None => return Err(node_error(node, format!("reads `{name}`, which nothing defines"))),
            }
        }
    }
    if in_order(&live, &readers) {
        return Ok(live.into_iter().map(|i| &graph.node[i]).collect());
    }
    let mut ready: VecDeque<usize> = live.iter().copied().filter(|&i| waiting_for[i] == 0).collect();
    let mut order = Vec::with_capacity(live.len());
    while let Some(i) = ready.pop_front() {
        order.push(&graph.node[i]);
        for &reader in &readers[i] {
            waiting_for[reader] -= 1;
            if waiting_for[reader] == 0 {
                ready.push_back(reader);
            }
        }
    }
    match live.iter().find(|&&i| waiting_for[i] > 0) {
        Some(&i) => Err(node_error(&graph.node[i], "is in a circle of nodes that wait for each other")),
        None => Ok(order),
    }
}

/// The names of all values that `node` reads, also within its subgraphs.
pub(crate) fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    names.extend(subgraphs(node).flat_map(captures));
    names
}

/// The names of the values which a subgraph takes from the graphs around it.
fn captures(graph: &GraphProto) -> Vec<&str> {
    let own: HashSet<&str> = (graph.input.iter().map(|input| input.name()))
        .chain(graph.initializer.iter().map(|tensor| tensor.name()))
        .chain(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)))
        .collect();
    let read = graph.node.iter().flat_map(reads).chain(graph.output.iter().map(|output| output.name()));
    read.filter(|name| !own.contains(name)).collect()
}

/// The positions of the nodes that the outputs depend on, ascending.
fn reachable(graph: &GraphProto, producers: &HashMap<&str, usize>) -> Vec<usize> {
    let mut live = vec![false; graph.node.len()];
    let mut pending: Vec<usize> =
        graph.output.iter().filter_map(|output| producers.get(output.name()).copied()).collect();
    while let Some(i) = pending.pop() {
        if !live[i] {
            live[i] = true;
            pending.extend(reads(&graph.node[i]).into_iter().filter_map(|name| producers.get(name).copied()));
        }
    }
    (0..live.len()).filter(|&i| live[i]).collect()
}

fn in_order(live: &[usize], readers: &[Vec<usize>]) -> bool {
    live.iter().all(|&i| readers[i].iter().all(|&reader| reader > i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ValueInfoProto;

    fn node(name: &str, inputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: Some("Add".to_owned()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            ..NodeProto::default()
        }
    }

    fn order(nodes: &[NodeProto]) -> Result<Vec<String>> {
        let output = ValueInfoProto { name: Some("out".to_owned()), ..ValueInfoProto::default() };
        let graph = GraphProto { node: nodes.to_vec(), output: vec![output], ..GraphProto::default() };
        Ok(live_nodes(&graph, |name| name == "x")?.into_iter().map(|node| node.output[0].clone()).collect())
    }

    #[test]
    fn nodes_follow_what_they_read_and_unneeded_ones_are_left_out() {
        let nodes = [node("out", &["b", "a"]), node("unneeded", &["nothing"]), node("b", &["a"]), node("a", &["x"])];
        assert_eq!(order(&nodes), Ok(vec!["a".to_owned(), "b".to_owned(), "out".to_owned()]));
    }

    #[test]
    fn circles_and_undefined_values_are_refused() {
        let circle = order(&[node("a", &["b"]), node("b", &["a"]), node("out", &["b"])]).unwrap_err();
        assert_eq!(circle.to_string(), "node `a` (Add): is in a circle of nodes that wait for each other");
        let undefined = order(&[node("out", &["y"])]).unwrap_err();
        assert_eq!(undefined.to_string(), "node `out` (Add): reads `y`, which nothing defines");
        let missing = order(&[node("a", &["x"])]).unwrap_err();
        assert_eq!(missing.to_string(), "value `out`: is an output of the graph, but nothing defines it");
    }
}

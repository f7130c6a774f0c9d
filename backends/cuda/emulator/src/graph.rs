//! Graphs: nodes, what they follow, and the order in which they run.

use crate::driver::{Answer, Driver, Handle};
use crate::stream::{Call, Work};
use cudarc::driver::sys::CUresult;
use std::collections::BinaryHeap;

/// A node, and the indices of those that it follows.
#[derive(Clone)]
struct Node {
    handle: Handle,
    work: Work,
    after: Vec<usize>,
}

/// A graph.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
}

/// A graph that can be launched: its nodes, in the order in which they run.
pub(crate) struct Exec {
    nodes: Vec<(Handle, Work)>,
}

impl Graph {
    fn index(&self, handle: Handle) -> Answer<usize> {
        let found = self.nodes.iter().position(|node| node.handle == handle);
        found.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }

    pub(crate) fn add(&mut self, handle: Handle, work: Work, after: &[Handle]) -> Answer {
        let after = after.iter().map(|handle| self.index(*handle)).collect::<Answer<_>>()?;
        self.nodes.push(Node { handle, work, after });
        Ok(())
    }

    /// Makes nodes follow others.
    pub(crate) fn connect(&mut self, from: Handle, to: Handle) -> Answer {
        let (from, to) = (self.index(from)?, self.index(to)?);
        self.nodes[to].after.push(from);
        Ok(())
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.nodes.iter().map(|node| node.handle)
    }

    /// The graph as it can be launched. Of the nodes that may run, the last that was added goes first.
    pub(crate) fn instantiate(&self) -> Answer<Exec> {
        let mut waits: Vec<usize> = self.nodes.iter().map(|node| node.after.len()).collect();
        let mut followers = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.after.iter().for_each(|before| followers[*before].push(index));
        }
        let mut ready: BinaryHeap<usize> = (0..waits.len()).filter(|index| waits[*index] == 0).collect();
        let mut nodes = Vec::with_capacity(waits.len());
        while let Some(index) = ready.pop() {
            nodes.push((self.nodes[index].handle, self.nodes[index].work.clone()));
            for &follower in &followers[index] {
                waits[follower] -= 1;
                if waits[follower] == 0 {
                    ready.push(follower);
                }
            }
        }
        // Those of a circle never get ready.
        if nodes.len() == waits.len() { Ok(Exec { nodes }) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
}

impl Exec {
    /// Gives a kernel other arguments.
    pub(crate) fn set_call(&mut self, handle: Handle, call: Call) -> Answer {
        match self.nodes.iter_mut().find(|(node, _)| *node == handle) {
            Some((_, Work::Call(old))) => *old = call,
            _ => return Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
        Ok(())
    }
}

impl Driver {
    /// Runs a graph's nodes on a stream's device.
    pub(crate) fn launch_graph(&mut self, exec: Handle, stream: Handle) -> Answer {
        let device = self.device_of_stream(stream)?;
        self.state(device)?;
        let nodes = self.exec(exec)?.nodes.clone();
        nodes.iter().try_for_each(|(_, work)| self.perform(device, work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(graph: &Graph) -> Vec<Handle> {
        graph.instantiate().unwrap().nodes.iter().map(|(handle, _)| *handle).collect()
    }

    #[test]
    fn what_is_not_ordered_runs_backwards() {
        let mut graph = Graph::default();
        for node in [10, 20, 30] {
            graph.add(node, Work::Empty, &[]).unwrap();
        }
        assert_eq!(order(&graph), [30, 20, 10]);
    }

    #[test]
    fn dependencies_are_respected() {
        let mut graph = Graph::default();
        graph.add(10, Work::Empty, &[]).unwrap();
        graph.add(20, Work::Empty, &[10]).unwrap();
        graph.add(30, Work::Empty, &[10]).unwrap();
        graph.add(40, Work::Empty, &[20, 30]).unwrap();
        graph.add(50, Work::Empty, &[]).unwrap();
        assert_eq!(order(&graph), [50, 10, 30, 20, 40]);
        graph.connect(40, 50).unwrap();
        assert_eq!(order(&graph), [10, 30, 20, 40, 50]);
    }

    #[test]
    fn circles_and_strange_nodes_are_refused() {
        let mut graph = Graph::default();
        graph.add(10, Work::Empty, &[]).unwrap();
        graph.add(20, Work::Empty, &[10]).unwrap();
        assert!(graph.add(30, Work::Empty, &[99]).is_err() && graph.connect(10, 99).is_err());
        graph.connect(20, 10).unwrap();
        assert!(graph.instantiate().is_err());
    }
}

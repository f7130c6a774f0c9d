//! Graphs.

use super::copy::shaped;
use super::module::params;
use super::{In, Out, entry_points};
use crate::driver::{Answer, Driver, Handle, Object};
use crate::graph::Graph;
use crate::stream::{Call, Work};
use cudarc::driver::sys::{
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_KERNEL_NODE_PARAMS_v2, CUDA_MEMCPY3D_st, CUDA_MEMSET_NODE_PARAMS,
    CUresult,
};
use std::ffi::{c_char, c_uint};

/// Adds a node that follows others.
fn add(
    driver: &mut Driver,
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    work: Work,
) -> Answer {
    if let Work::Call(call) = &work {
        driver.check(call)?;
    }
    let handle = driver.number();
    driver.graph(graph)?.add(handle, work, after.all(count)?)?;
    node.put(handle)
}

/// Both versions have the same first fields.
fn call(driver: &mut Driver, node: &CUDA_KERNEL_NODE_PARAMS_v1) -> Answer<Call> {
    let function = node.func as Handle;
    let (each, extra) = (In(node.kernelParams.cast_const().cast()), In(node.extra.cast_const().cast()));
    Ok(Call {
        function,
        grid: [node.gridDimX, node.gridDimY, node.gridDimZ],
        block: [node.blockDimX, node.blockDimY, node.blockDimZ],
        dynamic_shared: node.sharedMemBytes,
        params: params(driver, function, each, extra)?,
    })
}

fn first_fields(node: &CUDA_KERNEL_NODE_PARAMS_v2) -> CUDA_KERNEL_NODE_PARAMS_v1 {
    CUDA_KERNEL_NODE_PARAMS_v1 {
        func: node.func,
        gridDimX: node.gridDimX,
        gridDimY: node.gridDimY,
        gridDimZ: node.gridDimZ,
        blockDimX: node.blockDimX,
        blockDimY: node.blockDimY,
        blockDimZ: node.blockDimZ,
        sharedMemBytes: node.sharedMemBytes,
        kernelParams: node.kernelParams,
        extra: node.extra,
    }
}

fn instantiate(driver: &mut Driver, exec: Out<Handle>, graph: Handle) -> Answer {
    let ready = driver.graph(graph)?.instantiate()?;
    exec.put(driver.add(Object::Exec(ready)))
}

fn set_params(
    driver: &mut Driver,
    exec: Handle,
    node: Handle,
    params: &CUDA_KERNEL_NODE_PARAMS_v1,
) -> Answer {
    let call = call(driver, params)?;
    driver.check(&call)?;
    driver.exec(exec)?.set_call(node, call)
}

entry_points! {
    fn cuGraphCreate(graph: Out<Handle>, flags: c_uint) |driver| {
        if flags != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        graph.put(driver.add(Object::Graph(Graph::default())))
    };

    fn cuGraphDestroy(graph: Handle) |driver| {
        driver.graph(graph)?;
        driver.remove(graph, |object| matches!(object, Object::Graph(_))).map(|_| ())
    };

    fn cuGraphAddEmptyNode(node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize) |driver| {
        add(driver, node, graph, after, count, Work::Empty)
    };

    fn cuGraphAddKernelNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        params: In<CUDA_KERNEL_NODE_PARAMS_v1>,
    ) |driver| {
        let call = call(driver, &params.get()?)?;
        add(driver, node, graph, after, count, Work::Call(call))
    };

    fn cuGraphAddKernelNode_v2(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        params: In<CUDA_KERNEL_NODE_PARAMS_v2>,
    ) |driver| {
        let call = call(driver, &first_fields(&params.get()?))?;
        add(driver, node, graph, after, count, Work::Call(call))
    };

    fn cuGraphAddMemcpyNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, copy: In<CUDA_MEMCPY3D_st>,
        context: Handle,
    ) |driver| {
        driver.device_of(context)?;
        let work = shaped(driver, &copy.get()?)?;
        add(driver, node, graph, after, count, work)
    };

    fn cuGraphAddMemsetNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize,
        set: In<CUDA_MEMSET_NODE_PARAMS>, context: Handle,
    ) |driver| {
        driver.device_of(context)?;
        let set = set.get()?;
        let work = Work::Set {
            to: set.dst,
            pitch: set.pitch as u64,
            value: set.value,
            element: set.elementSize.into(),
            extent: [set.width as u64, set.height as u64],
        };
        add(driver, node, graph, after, count, work)
    };

    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) |driver| {
        let graph = driver.graph(graph)?;
        from.all(count)?.iter().zip(to.all(count)?).try_for_each(|(from, to)| graph.connect(*from, *to))
    };

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) |driver| {
        let mut handles: Vec<Handle> = driver.graph(graph)?.handles().collect();
        if nodes.is_none() {
            return count.put(handles.len());
        }
        handles.truncate(count.get()?);
        nodes.put_all(&handles)?;
        count.put(handles.len())
    };

    fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, _flags: u64) |driver| {
        instantiate(driver, exec, graph)
    };

    fn cuGraphInstantiate_v2(
        exec: Out<Handle>, graph: Handle, _error_node: Out<Handle>, _log: Out<c_char>, _bytes: usize,
    ) |driver| instantiate(driver, exec, graph);

    fn cuGraphExecKernelNodeSetParams(
        exec: Handle, node: Handle, params: In<CUDA_KERNEL_NODE_PARAMS_v1>,
    ) |driver| set_params(driver, exec, node, &params.get()?);

    fn cuGraphExecKernelNodeSetParams_v2(
        exec: Handle, node: Handle, params: In<CUDA_KERNEL_NODE_PARAMS_v2>,
    ) |driver| set_params(driver, exec, node, &first_fields(&params.get()?));

    fn cuGraphLaunch(exec: Handle, stream: Handle) |driver| driver.launch_graph(exec, stream);

    fn cuGraphUpload(exec: Handle, stream: Handle) |driver| {
        driver.exec(exec)?;
        driver.device_of_stream(stream).map(|_| ())
    };

    fn cuGraphExecDestroy(exec: Handle) |driver| {
        driver.exec(exec)?;
        driver.remove(exec, |object| matches!(object, Object::Exec(_))).map(|_| ())
    };
}

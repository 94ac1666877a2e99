"""Write `edge/int8_product.onnx`, the one graph that belongs to no pack: `python -m export.int8_product`."""

from __future__ import annotations

import numpy as np

from edge.int8_product import PRODUCT_GRAPH, ZERO_POINT

OPSET, IR_VERSION = 17, 8  # old enough for every runtime that edge allows


def int8_product_graph() -> bytes:
    """What `edge.int8_product` says of its graph, as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    zero_point = numpy_helper.from_array(np.array(ZERO_POINT, dtype=np.uint8), "zero_point")
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", "D"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("constants", TensorProto.UINT8, ["N", "C"]),
        helper.make_tensor_value_info("columns", TensorProto.INT8, ["F", "W"]),
    ]
    output = helper.make_tensor_value_info("products", TensorProto.INT32, ["N", "W"])
    nodes = [
        helper.make_node("QuantizeLinear", ["rows", "scale", "zero_point"], ["rounded"]),
        helper.make_node("Concat", ["rounded", "constants"], ["levels"], axis=1),
        helper.make_node("MatMulInteger", ["levels", "columns", "zero_point"], ["products"]),
    ]
    graph = helper.make_graph(nodes, "int8_product", inputs, [output], [zero_point])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    PRODUCT_GRAPH.write_bytes(int8_product_graph())

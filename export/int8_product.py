"""Write `edge/int8_product.onnx`, the one graph that belongs to no pack: `python -m export.int8_product`."""

from __future__ import annotations

import numpy as np

from edge.int8_search import PRODUCT_GRAPH

OPSET, IR_VERSION = 17, 8  # old enough for every runtime that edge allows


def int8_product_graph() -> bytes:
    """rows (N, F) float32 / scale, rounded; times columns (F, M) int8 -> products (N, M) int32."""
    from onnx import TensorProto, helper, numpy_helper

    zero_point = numpy_helper.from_array(np.array(128, dtype=np.uint8), "zero_point")  # u8 x s8 is the fast pair on x86
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", "F"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("columns", TensorProto.INT8, ["F", "M"]),
    ]
    output = helper.make_tensor_value_info("products", TensorProto.INT32, ["N", "M"])
    nodes = [
        helper.make_node("QuantizeLinear", ["rows", "scale", "zero_point"], ["levels"]),
        helper.make_node("MatMulInteger", ["levels", "columns", "zero_point"], ["products"]),
    ]
    graph = helper.make_graph(nodes, "int8_product", inputs, [output], [zero_point])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    PRODUCT_GRAPH.write_bytes(int8_product_graph())

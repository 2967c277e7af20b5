// The networks of a station, run by ONNX Runtime in WebAssembly, one thread. (Never WebGL: it gives wrong answers
// without an error.)

import * as ort from "/app/assets/ort.mjs";

export function start(wasm) {
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
}

export async function load(model) {
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return async (values, shape) => {
    const tensor = new ort.Tensor("float32", values, shape);
    const outputs = Object.values(await session.run({ [session.inputNames[0]]: tensor }));
    if (outputs.some(({ data }) => !data.every(Number.isFinite))) throw new Error("A network gave no number.");
    return outputs;
  };
}

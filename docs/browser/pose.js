/* Find the keypoints of one person in a browser, as convpose predict does on a machine.

     import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
     import { PosePredictor, decode } from "./pose.js";

     const file = await fetch("pose.onnx");                  // of convpose export format=onnx
     const predictor = await PosePredictor.load(ort, await file.arrayBuffer());
     const { keypoints_px, scores } = await predictor.predict(await decode(blob));

   Coordinates are pixels of the upright picture, with pixel centres at integers. A box is
   [x0, y0, x1, y1], its edges. An image is { data, width, height }: RGBA, four bytes a pixel.
   Normalisation, decoding and score calibration lie inside the network's file. */

const KEY = "convpose"; // under which the file's metadata holds the facts
const VERSION = 1; // of the facts
const OUTSIDE = 114; // grey of a crop where there is no picture
const DECODED_PX = 16_000_000; // Safari on a phone draws no larger canvas
const [TRUSTED, LEAST_TRUSTED, LEAST_SIDE] = [0.3, 3, 0.1]; // see convpose/data/crop.py
const [NEUTRAL, RIM] = ["#acb2bc", "#181a20"]; // colours of a drawing
const TORSO = new Set(["left_shoulder", "right_shoulder", "left_hip", "right_hip"]);

export class PosePredictor {
  /** Make a predictor of a session of ONNX Runtime and the facts of its file. */
  constructor(ort, session, facts) {
    [this.ort, this.session, this.facts, this.spec] = [ort, session, facts, facts.spec];
  }

  /** Load a file of `convpose export`, an ArrayBuffer; an Error says what is wrong with it. */
  static async load(ort, buffer) {
    const facts = readFacts(new Uint8Array(buffer));
    return new PosePredictor(ort, await ort.InferenceSession.create(buffer), facts);
  }

  /** Look at the whole frame, then at the box of what was found there; in a given box, once.

      Returns keypoints_px, a list of [x, y], and scores, in the order of spec.keypoints. */
  async predict(image, box_px = null) {
    const { frame, box_scale } = this.spec;
    const first = await this.look(image, box_px ? around(box_px, box_scale) : whole(frame, image));
    const found = box_px ? null : foundBox(first, image);
    return found ? this.look(image, around(found, box_scale)) : first;
  }

  /** Cut a crop out of an image and run the network on it. */
  async look(image, [x0, y0, x1, y1]) {
    const size = this.spec.input_size_px;
    const pixels = warp(image, [x0, y0, x1, y1], size);
    const crops = new this.ort.Tensor("uint8", pixels, [1, 3, size, size]);
    const { keypoints, scores } = await this.session.run({ crops });
    const keypoints_px = [];
    for (let i = 0; i < keypoints.data.length; i += 2) {
      const [u, v] = keypoints.data.subarray(i, i + 2); // fractions of the crop
      keypoints_px.push([x0 + u * (x1 - x0), y0 + v * (y1 - y0)]);
    }
    return { keypoints_px, scores: [...scores.data] };
  }
}

/** Decode a picture's file (a Blob): upright, on white, huge ones smaller.

    Returns an image with its canvas; `shrunk` is the number of the file's pixels in one of its. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const factor = Math.ceil(Math.sqrt((bitmap.width * bitmap.height) / DECODED_PX));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.ceil(side / factor));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return { canvas, data, width, height, shrunk: bitmap.width / width };
}

/** Draw a skeleton as convpose does: left orange, right blue, torso grey, faint where unsure. */
export function draw(context, keypoints_px, scores, spec) {
  const { limbs = [], pairs = [], colours = {} } = spec.skeleton;
  const sides = new Map((pairs ?? []).flatMap(([l, r]) => [[l, "#ff8a1f"], [r, "#269eff"]]));
  const colour = (name) => colours[name] ?? sides.get(name) ?? NEUTRAL;
  const torso = (a, b) => TORSO.has(a) && TORSO.has(b);
  const ofLimb = (a, b) =>
    colours[b] ?? (torso(a, b) || sides.get(a) !== sides.get(b) ? NEUTRAL : colour(b));
  const opacity = (...names) => Math.max(0.2, Math.min(...names.map((n) => scores[index(n)])));
  const index = (name) => spec.keypoints.indexOf(name);
  const width = Math.max(1.5, 0.014 * Math.sqrt(context.canvas.width * context.canvas.height));
  const rim = Math.max(1, 0.3 * width);
  context.lineCap = "round";
  for (const names of limbs) {
    const [[x0, y0], [x1, y1]] = names.map((name) => keypoints_px[index(name)]);
    context.globalAlpha = opacity(...names);
    for (const [style, wide] of [[RIM, width + 2 * rim], [ofLimb(...names), width]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: wide });
      context.beginPath();
      context.moveTo(x0 + 0.5, y0 + 0.5); // a canvas counts from the corner of a pixel
      context.lineTo(x1 + 0.5, y1 + 0.5);
      context.stroke();
    }
  }
  spec.keypoints.forEach((name, i) => {
    const [x, y] = keypoints_px[i];
    context.globalAlpha = opacity(name);
    for (const [style, radius] of [[RIM, 1.15 * width + rim], [colour(name), 1.15 * width]]) {
      context.fillStyle = style;
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
  context.globalAlpha = 1;
}

/** Read the facts in an ONNX file: its metadata are field 14 of a protobuf message. */
export function readFacts(bytes) {
  const text = new TextDecoder();
  try {
    for (const [field, entry] of messageFields(bytes)) {
      if (field !== 14) continue;
      const { 1: key, 2: value } = Object.fromEntries(messageFields(entry));
      if (text.decode(key) !== KEY) continue;
      const facts = JSON.parse(text.decode(value));
      if (facts.version === VERSION) return facts;
      throw new Error(`format version ${facts.version}, this page reads ${VERSION}`);
    }
  } catch (error) {
    if (error.message.startsWith("format version")) throw error;
  }
  throw new Error("not a file that convpose export format=onnx wrote");
}

/** Walk over the fields of a protobuf message; a number's value is left out. */
function* messageFields(bytes) {
  let at = 0;
  const number = () => {
    for (let value = 0, unit = 1; ; unit *= 128) {
      if (at >= bytes.length) throw new Error("the message ends early");
      value += (bytes[at] & 127) * unit;
      if (bytes[at++] < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) number();
    else if (wire === 1 || wire === 5) at += wire === 1 ? 8 : 4;
    else if (wire === 2) {
      const length = number();
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("no protobuf message");
  }
}

/** Return the box of the whole frame, stretched ("image") or padded to a square ("letterbox"). */
function whole(frame, { width, height }) {
  if (frame === "image") return [-0.5, -0.5, width - 0.5, height - 0.5];
  return square((width - 1) / 2, (height - 1) / 2, Math.max(width, height));
}

/** Return a square around a box, `scale` times as large as its longer side. */
function around([x0, y0, x1, y1], scale) {
  return square((x0 + x1) / 2, (y0 + y1) / 2, scale * Math.max(x1 - x0, y1 - y0));
}

function square(x, y, side) {
  return [x - side / 2, y - side / 2, x + side / 2, y + side / 2];
}

/** Place a box around what was found, for a closer look; null where that is too little. */
function foundBox({ keypoints_px, scores }, { width, height }) {
  const trusted = keypoints_px.filter((_, i) => scores[i] >= TRUSTED);
  if (trusted.length < LEAST_TRUSTED) return null;
  const xs = trusted.map(([x]) => Math.min(Math.max(x, -0.5), width - 0.5));
  const ys = trusted.map(([, y]) => Math.min(Math.max(y, -0.5), height - 0.5));
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  const side = Math.max(box[2] - box[0], box[3] - box[1]);
  return side < LEAST_SIDE * Math.max(width, height) ? null : box;
}

/** Sample a crop, bilinear: (3, size, size) bytes, red, green and blue one after the other.

    Shrinking by two or more first halves the image by area averaging, as often as needed. */
function warp(image, [x0, y0, x1, y1], size) {
  let [sx, sy] = [(x1 - x0) / size, (y1 - y0) / size]; // source pixels a pixel of the crop
  let [tx, ty] = [x0 + sx / 2, y0 + sy / 2]; // where the crop's first pixel lies
  while (Math.sqrt(sx * sy) >= 2 && Math.min(image.width, image.height) >= 2) {
    const halved = halve(image);
    const [fx, fy] = [halved.width / image.width, halved.height / image.height];
    [sx, sy, tx, ty] = [sx * fx, sy * fy, (tx + 0.5) * fx - 0.5, (ty + 0.5) * fy - 0.5];
    image = halved;
  }
  const { data, width, height } = image;
  const at = (x, y, c) =>
    x < 0 || y < 0 || x >= width || y >= height ? OUTSIDE : data[4 * (y * width + x) + c];
  const crop = new Uint8Array(3 * size * size);
  for (let v = 0, i = 0; v < size; v++) {
    const y = ty + v * sy, top = Math.floor(y), b = y - top;
    for (let u = 0; u < size; u++, i++) {
      const x = tx + u * sx, left = Math.floor(x), a = x - left;
      for (let c = 0; c < 3; c++) {
        const upper = (1 - a) * at(left, top, c) + a * at(left + 1, top, c);
        const lower = (1 - a) * at(left, top + 1, c) + a * at(left + 1, top + 1, c);
        crop[c * size * size + i] = Math.round((1 - b) * upper + b * lower);
      }
    }
  }
  return crop;
}

/** Average an image over areas to half its width and height, rounded down; not its opacity. */
function halve({ data, width, height }) {
  const [w, h] = [width >> 1, height >> 1];
  const [columns, rows] = [shares(width, w), shares(height, h)];
  const halved = new Uint8Array(4 * w * h);
  const line = new Float32Array(4 * width);
  for (let y = 0; y < h; y++) {
    line.fill(0);
    for (const [from, share] of rows[y]) {
      for (let i = 0, at = 4 * width * from; i < line.length; i++) line[i] += share * data[at + i];
    }
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (const [from, share] of columns[x]) sum += share * line[4 * from + c];
        halved[4 * (y * w + x) + c] = Math.floor(sum + 0.5);
      }
    }
  }
  return { data: halved, width: w, height: h };
}

/** List, for each of `to` equal parts of a line of `from` pixels, its pixels and their shares. */
function shares(from, to) {
  const part = from / to;
  return Array.from({ length: to }, (_, i) => {
    const [start, end] = [i * part, Math.min((i + 1) * part, from)];
    const found = [];
    for (let pixel = Math.floor(start); pixel < end - 1e-6; pixel++) {
      found.push([pixel, (Math.min(pixel + 1, end) - Math.max(pixel, start)) / part]);
    }
    return found;
  });
}

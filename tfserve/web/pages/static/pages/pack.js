// A zip file of many files, without compression, as images are compressed already. The contents stay on disk: a Blob
// refers to the files.

const MAX_FILES = 65_535;
const MAX_BYTES = 0xffff_ffff;
const UTF8 = 0x0800;
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

// `entries` are {path, file}.
export async function zipped(entries, onShare) {
  const total = entries.reduce((sum, { file }) => sum + file.size, 0);
  if (entries.length > MAX_FILES || total > MAX_BYTES) {
    throw new Error("More than 65,535 files or 4 GiB can't be packed in the browser. Upload a zip file or use a folder on the server.");
  }
  const parts = [];
  const directory = [];
  let offset = 0;
  let done = 0;
  for (const { path, file } of entries) {
    const name = new TextEncoder().encode(path);
    const fields = [UTF8, 0, 0, 0x21, await checksum(file), file.size, file.size]; // flags, stored, 1980-01-01
    const head = record(0x04034b50, [20], fields, [name.length, 0], name);
    parts.push(head, file);
    directory.push(record(0x02014b50, [20, 20], fields, [name.length, 0, 0, 0, 0], name, offset));
    offset += head.length + file.size;
    done += file.size;
    onShare(total ? done / total : 1);
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  return new Blob([...parts, ...directory, ending(entries.length, size, offset)], { type: "application/zip" });
}

async function checksum(file) {
  let crc = 0xffffffff;
  for (const byte of new Uint8Array(await file.arrayBuffer())) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// A local header, or an entry of the directory, which also has attributes and the offset of the header.
function record(signature, versions, [flags, method, time, date, crc, packed, size], lengths, name, offset) {
  const shorts = [...versions, flags, method, time, date];
  const isEntry = offset !== undefined;
  const bytes = new Uint8Array(4 + 2 * shorts.length + 12 + 2 * lengths.length + (isEntry ? 8 : 0) + name.length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put16 = (value) => (view.setUint16(at, value, true), (at += 2));
  const put32 = (value) => (view.setUint32(at, value, true), (at += 4));
  put32(signature);
  shorts.forEach(put16);
  [crc, packed, size].forEach(put32);
  lengths.forEach(put16);
  if (isEntry) [0, offset].forEach(put32);
  bytes.set(name, at);
  return bytes;
}

function ending(count, size, offset) {
  const bytes = new Uint8Array(22);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x06054b50, true);
  view.setUint16(8, count, true);
  view.setUint16(10, count, true);
  view.setUint32(12, size, true);
  view.setUint32(16, offset, true);
  return bytes;
}

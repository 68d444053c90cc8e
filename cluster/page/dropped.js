// Files that were dropped or chosen, with what lies in folders.

// Endings of images for which browsers know no type.
const IMAGES = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif|jxl|jp2|dng|cr2|cr3|nef|arw|orf|raf|rw2)$/i;

/** Files with their paths, as `[{file, path}]`; and how many were passed over for they are no images. */
export async function filesOf(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) {
    return sorted([...data.files].map((file) => ({ file, path: file.name })));
  }
  const found = [];
  for (const entry of entries) {
    await walk(entry, found);
  }
  return sorted(found);
}

/** The same for files that were chosen. */
export function filesIn(list) {
  return sorted([...list].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

function sorted(found) {
  // A single file is sent whatever it is: the service says what is wrong with it.
  const alone = found.length === 1;
  const images = found.filter(({ file }) => alone || file.type.startsWith("image/") || IMAGES.test(file.name));
  return { images, passedOver: found.length - images.length };
}

async function walk(entry, found) {
  if (entry.name.startsWith(".")) {
    return;
  }
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) {
      found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    }
    return;
  }
  const reader = entry.createReader();
  // It gives some at a time, and at last none.
  for (let some; (some = await read(reader)).length; ) {
    for (const one of some) {
      await walk(one, found);
    }
  }
}

function read(reader) {
  return new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
}

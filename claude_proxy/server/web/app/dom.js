// Builds and updates elements from descriptions. Texts become text nodes only, never markup. Unchanged elements are not touched,
// so that nothing flickers and a screen reader keeps its position.

const SVG = "http://www.w3.org/2000/svg";
// What a user changes in an element, and the style, which is set property by property.
const KEPT = new Set(["open", "style"]);

// Describes an element: its tag, its attributes and its children: descriptions and texts; false and null are left out.
// Special attributes: `text` (its whole content), `key` (which element it is among its siblings), `style` (an object),
// `value` and `checked` (set as properties), `on...` (listeners, as functions). False and null remove an attribute; true is
// an empty one.
export const el = (tag, attributes = {}, ...children) => ({
  tag, attributes, children: children.flat(Infinity).filter((child) => child !== false && child !== null && child !== undefined && child !== ""),
});

// Describes an element of SVG.
export const svg = (tag, attributes = {}, ...children) => ({ ...el(tag, attributes, ...children), space: SVG });

export function make(description) {
  if (typeof description !== "object") return document.createTextNode(String(description));
  const node = description.space ? document.createElementNS(description.space, description.tag) : document.createElement(description.tag);
  update(node, description);
  return node;
}

export function update(node, { attributes, children }) {
  for (const name of node.getAttributeNames()) {
    if (!KEPT.has(name) && (!(name in attributes) || absent(attributes[name]))) node.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(attributes)) if (!late(node, name)) setAttribute(node, name, value);
  if (!("text" in attributes)) fill(node, children);
  if ("value" in attributes && late(node, "value")) setAttribute(node, "value", attributes.value); // now its options are there
}

const late = (node, name) => name === "value" && node.tagName === "SELECT";

const absent = (value) => value === false || value === null || value === undefined;

function setAttribute(node, name, value) {
  if (name === "text") {
    if (node.childElementCount > 0 || node.textContent !== String(value)) node.textContent = value;
  } else if (name === "key") {
    node.key = value;
  } else if (name === "style") {
    for (const [property, one] of Object.entries(value)) {
      if (node.style.getPropertyValue(property) !== one) node.style.setProperty(property, one);
    }
  } else if (typeof value === "function") {
    node[name] = value;
  } else if ((name === "value" && node.tagName !== "OPTION") || name === "checked") {
    if (node[name] !== value) node[name] = value;
  } else if (!absent(value)) {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

// Makes the children of a node those that are described. An element with a key stays the same element wherever it moves.
export function fill(node, children) {
  const keyed = new Map();
  for (const child of node.childNodes) if (child.key !== undefined) keyed.set(child.key, child);
  let at = node.firstChild;
  for (const child of children) {
    const key = child.attributes?.key;
    let found = key === undefined ? at : keyed.get(key);
    if (found && key === undefined && found.key !== undefined) found = null;
    if (!found || !fits(found, child)) {
      const replaced = found && found === at ? found : null;
      node.insertBefore(make(child), at);
      if (replaced) {
        at = replaced.nextSibling;
        replaced.remove();
      }
      continue;
    }
    if (found === at) at = at.nextSibling;
    else node.insertBefore(found, at);
    if (typeof child === "object") update(found, child);
    else if (found.data !== String(child)) found.data = String(child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function fits(node, description) {
  if (typeof description !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.tagName.toLowerCase() === description.tag.toLowerCase();
}

// Sets the text of a node if it differs, so that a live region is read once.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

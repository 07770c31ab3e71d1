// Checks of a page for those who see, hear or move in another way: used by test_dashboard_page.py.
const numbers = text => text.match(/[\d.]+/g).map(Number);
const shown = element => element.getClientRects().length > 0;

// Relative luminance, as WCAG 2.2 defines it.
const luminance = colour => {
  const [r, g, b] = colour.slice(0, 3).map(part => part / 255).map(part =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const background = element => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};

// Texts whose contrast is below 4.5 to 1 (1.4.3).
const lowContrast = () => [...document.querySelectorAll("body *")]
  .filter(element => shown(element) && !element.disabled && !element.closest("script, style, template"))
  .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
  .map(element => {
    const pair = [luminance(numbers(getComputedStyle(element).color)), luminance(background(element))];
    return [element.textContent.trim().slice(0, 30), (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
  })
  .filter(([, contrast]) => contrast < 4.5);

const named = element => element.getAttribute("aria-labelledby")
  || (element.getAttribute("aria-label") || element.textContent || "").trim()
  || [...(element.labels || [])].map(label => label.textContent.trim()).join("");

// Elements that a screen reader could not name (4.1.2).
const nameless = () => [...document.querySelectorAll("button, input, a, section, [role=img], [role=region]")]
  .filter(element => shown(element) && !named(element)).map(element => element.outerHTML);

const outlined = element => getComputedStyle(element).outlineStyle !== "none";

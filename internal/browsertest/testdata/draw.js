// drawMermaid draws a text, and leaves of Mermaid's SVG the shapes, their classes and their places.
async function drawMermaid(text, style) {
  const family = '"Liberation Sans", Arial, Helvetica, sans-serif';
  mermaid.initialize({
    startOnLoad: false, securityLevel: 'strict', deterministicIds: true, deterministicIDSeed: 'p', htmlLabels: false, theme: 'base',
    fontFamily: family, themeVariables: { fontFamily: family, fontSize: '14px' },
    flowchart: { htmlLabels: false, padding: 10, nodeSpacing: 36, rankSpacing: 52, wrappingWidth: 400 },
    sequence: { useMaxWidth: false, actorFontFamily: family, messageFontFamily: family, noteFontFamily: family, actorFontSize: 14, messageFontSize: 14, noteFontSize: 14, mirrorActors: false, boxMargin: 6, messageMargin: 30, actorMargin: 40, width: 130, height: 44 },
  });
  const host = document.createElement('div');
  document.body.append(host);
  const { svg } = await mermaid.render('p', text, host);
  host.innerHTML = svg;
  const root = host.querySelector('svg');
  const [, , width, height] = root.getAttribute('viewBox').split(' ').map(Number);
  for (const old of root.querySelectorAll('style')) old.remove();
  for (const name of ['style', 'role', 'aria-roledescription', 'class']) root.removeAttribute(name);
  root.setAttribute('width', Math.ceil(width));
  root.setAttribute('height', Math.ceil(height));
  // Rounded shapes are drawn twice: filled, and as if by hand, otherwise each time.
  for (const filled of root.querySelectorAll('path[stroke="none"]')) {
    const outline = filled.nextElementSibling;
    if (outline?.matches('path[fill="none"]')) {
      outline.remove();
      filled.removeAttribute('stroke');
    }
  }
  // Each word is a part of its own.
  for (const line of root.querySelectorAll('tspan:has(> tspan)')) {
    if ([...line.childNodes].every(part => part.childElementCount === 0)) line.textContent = line.textContent;
  }
  for (const marker of root.querySelectorAll('marker')) {
    if (!svg.includes(`url(#${marker.id})`)) marker.remove();
  }
  for (const one of root.querySelectorAll('*')) {
    for (const name of ['data-id', 'data-node', 'data-et', 'data-points', 'data-edge', 'data-look', 'name', 'filter', 'xml:space']) one.removeAttribute(name);
    // Colours are the style's. What remains says where something is.
    for (const name of ['fill', 'stroke', 'background', 'background-color']) {
      if (one.style && one.style[name] !== 'none') one.style.removeProperty(name);
      if (one.getAttribute(name) && one.getAttribute(name) !== 'none') one.removeAttribute(name);
    }
    one.style?.removeProperty('font-size');
    if (!one.getAttribute('style')) one.removeAttribute('style');
    // A box without a size is that of a label without a text.
    if (one.tagName === 'rect' && one.classList.contains('background') && !Number(one.getAttribute('width'))) one.remove();
  }
  const sheet = document.createElementNS('http://www.w3.org/2000/svg', 'style');
  sheet.textContent = style;
  root.prepend(sheet);
  const made = new XMLSerializer().serializeToString(root).replace(/-?\d+\.\d{2,}(e-?\d+)?/g, n => String(Math.round(n * 10) / 10));
  host.remove();
  return made + '\n';
}

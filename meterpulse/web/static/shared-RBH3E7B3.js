import{u as r}from"./shared-QKRCP2MY.js";var p=(o,t)=>`${r(o)} ${t}${Number(o)===1?"":"s"}`;export{p as a};
